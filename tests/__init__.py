"""Tests; the folders mirror ``src/tag2mask``."""
