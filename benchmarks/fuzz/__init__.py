"""Seeded fuzz of every reader: broken input must end in a clear error, in bounded time and memory.

``python -m benchmarks.fuzz`` tries many inputs of each reader and writes ``results/fuzz.csv``;
tests/project/test_fuzz.py tries a few of them.
"""
