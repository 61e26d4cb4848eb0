"""Python objects to signed bytes and back."""
