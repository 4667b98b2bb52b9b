"""What happened while nobody listened, from FreeSWITCH's own call detail records.

Records in, events out, for the same call rules. Nothing here decides what Planfix is told.
"""
