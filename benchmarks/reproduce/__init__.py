"""Reruns the commands behind the tables of ``results/`` and compares the numbers."""
