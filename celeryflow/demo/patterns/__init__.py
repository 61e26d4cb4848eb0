"""Each pattern at work on the flights of 2013, a file each.

A file has ``submit() -> Run``, which starts it in the current directory, and ``told(result) -> str``, which says what
came of it.
"""
