"""Stand-ins for FreeSWITCH and Planfix, for the demo and the tests. They import nothing from the service."""
