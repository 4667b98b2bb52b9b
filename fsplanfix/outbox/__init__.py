"""Notices on their way: written before they are sent, sent in order. The only user of SQLAlchemy."""
