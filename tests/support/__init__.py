"""What tests share. Nothing in it is a test."""
