"""Inference: multi-scale and mirrored forward passes, maps from their features, files of maps."""
