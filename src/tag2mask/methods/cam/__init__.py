"""CAM: class activation maps of a classifier trained on tags."""
