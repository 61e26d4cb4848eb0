"""Large values, named by their SHA-256: what a place for them does, and those that need no server."""

from celeryflow.values.blobs.files import FileBlobs

__all__ = ["FileBlobs"]
