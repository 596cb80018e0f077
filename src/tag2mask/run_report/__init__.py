"""Gathers what the page of a run shows."""
