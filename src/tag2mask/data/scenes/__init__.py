"""Small drawn scenes with exact truth: what stands where, what it looks like, and the pixels."""
