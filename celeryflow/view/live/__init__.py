"""A run that shows itself while it goes on: under its cell, in a terminal, or in a log."""
