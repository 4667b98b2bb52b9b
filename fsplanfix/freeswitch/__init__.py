"""Speaks the event socket; the only user of greenswitch. Imports nothing ours but errors."""
