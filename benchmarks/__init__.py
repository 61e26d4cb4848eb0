"""Measurements against what a user would pick instead: ratios in one run, never a timed test."""
