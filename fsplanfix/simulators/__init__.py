"""Stand-ins for FreeSWITCH and Planfix. They import nothing from the service."""
