"""Inference: multi-scale and mirrored forward passes and what becomes of their features."""
