"""Pictures of a Snapshot: pure functions from data to text."""
