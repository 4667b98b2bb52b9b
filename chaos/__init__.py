"""`make chaos` plays calls while parts fail and counts what is lost, doubled, out of order."""
