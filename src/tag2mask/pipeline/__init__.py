"""Stages, store, keys, manifests and runs that can be interrupted."""
