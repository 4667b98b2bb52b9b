"""Tells a person of troubles: what is said and when, and the ways it is sent."""
