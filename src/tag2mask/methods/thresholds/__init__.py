"""Thresholds: which one a stage cuts at, and the one chosen on a few hand-made masks."""
