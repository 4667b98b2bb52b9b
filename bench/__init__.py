"""Measurements against references in the same run: `make bench` fails if a bar is missed."""
