"""Ten minutes of steady calls through the real service. `make soak` prints what grew; it fails if anything did."""
