"""fsplanfix connects FreeSWITCH to the CRM Planfix. Data flows one way: see docs in README.md.

freeswitch (events) -> calls (rules) -> outbox (durable) -> planfix (HTTP). `service/app.py` alone
knows every part.
"""
