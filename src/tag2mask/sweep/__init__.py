"""A recipe over a grid of settings."""
