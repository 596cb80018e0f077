"""Benchmarks: each module measures one claim, writes ``results/NAME.csv`` and runs as ``python -m benchmarks.NAME``."""

from tag2mask.core.resources import wait_asleep

wait_asleep()  # as the command line does: what else the machine runs is no part of a claim
