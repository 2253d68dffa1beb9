"""Measurements with a file behind every number: `python -m benchmarks NAME [--json PATH]`."""
