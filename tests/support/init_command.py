"""`fsplanfix init` with what Planfix shows, given as options."""

URL = "https://example.planfix.com/tel/api"
GIVEN = ("init", "--planfix-url", URL, "--planfix-token", "abc")
