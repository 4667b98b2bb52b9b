"""Hostile input for everything that listens: what a stranger or a broken peer may send or say."""
