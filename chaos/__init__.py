"""Faults, measured: `make chaos` plays calls while parts fail, and counts what was lost, doubled or out of order."""
