"""The version, which clients and workers compare."""

__version__ = "0.1.0"
