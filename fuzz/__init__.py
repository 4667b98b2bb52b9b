"""Hostile input for everything that listens: what a stranger, a broken Planfix or a broken phone system may send."""
