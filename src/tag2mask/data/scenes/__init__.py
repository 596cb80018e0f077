"""Small drawn scenes with exact ground truth: what stands where, what it looks like, and the pixels."""
