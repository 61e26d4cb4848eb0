"""What is known of a run: a pure fold of its events, and frames made of it."""
