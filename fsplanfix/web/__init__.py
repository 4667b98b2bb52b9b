"""What is served over HTTP. What it needs is handed to it: it imports neither planfix nor freeswitch."""
