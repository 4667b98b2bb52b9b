"""Speaks HTTP with Planfix, both ways. The only user of requests; never imports freeswitch."""
