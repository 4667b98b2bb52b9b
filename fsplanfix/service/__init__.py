"""The running process: builds the parts and keeps them at work. Knows everything below."""
