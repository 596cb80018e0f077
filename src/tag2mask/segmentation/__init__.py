"""The second stage: networks that segment, trained on pseudo-masks and used on images without tags."""
