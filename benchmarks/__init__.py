"""Benchmarks: each module measures one claim, writes ``results/NAME.csv`` and runs as ``python -m benchmarks.NAME``."""
