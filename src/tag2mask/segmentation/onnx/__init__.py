"""Segmentation networks in ONNX."""
