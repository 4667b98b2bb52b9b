"""Speaks the event socket with FreeSWITCH; the only user of greenswitch. Imports nothing of the house but errors."""
