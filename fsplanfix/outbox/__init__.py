"""Notices on their way: durable before they are sent, sent in order. Only user of SQLAlchemy."""
