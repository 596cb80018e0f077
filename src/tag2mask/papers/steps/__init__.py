"""Figures and numbers of the papers that no stage gives."""
