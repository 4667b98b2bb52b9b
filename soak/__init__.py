"""Ten minutes of steady calls through the real service; `make soak` fails if anything grew."""
