"""Benchmarks: each prints a table; with `--json` its last line is data."""
