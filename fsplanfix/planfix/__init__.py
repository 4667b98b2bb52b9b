"""Speaks HTTP with Planfix, both ways; the only user of requests. Takes notices, never imports freeswitch."""
