"""A recipe over a grid of settings: ``tag2mask sweep`` and ``tag2mask analyse tag-noise``."""
