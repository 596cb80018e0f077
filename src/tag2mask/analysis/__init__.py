"""Analyses of a finished run: thresholds, mask quality, co-occurrence, prototypes."""
