"""Exchanges HTTP requests with Planfix, both ways. Never imports freeswitch."""
