"""Readers of data sets, drawn scenes, transforms and the doctor."""
