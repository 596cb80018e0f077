"""Measured stages of finished runs side by side on the same images."""
