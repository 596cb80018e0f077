"""Settings schemas, recipes, overrides and their error texts; no torch."""
