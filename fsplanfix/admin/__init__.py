"""What a person asks: is all well, what happened, how do things stand."""
