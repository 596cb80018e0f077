"""Refined seeds, seeds after one CRF pass, and pseudo-masks: label images from maps."""
