"""Where workers come from, and what is known of a run."""
