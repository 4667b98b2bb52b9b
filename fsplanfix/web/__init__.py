"""What is served over HTTP. Gets what it needs: imports neither planfix nor freeswitch."""
