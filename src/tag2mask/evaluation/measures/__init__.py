"""Measures beside mIoU: trivial answers for scale, and IoU with a tolerance for thin things."""
