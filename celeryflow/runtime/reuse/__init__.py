"""What a run takes over from earlier ones: keys, matches, and records signed anew."""
