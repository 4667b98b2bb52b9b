"""Measurements against references in the same run. `make bench` prints one table; it fails if a bar is missed."""
