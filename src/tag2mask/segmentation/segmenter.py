"""The door of this folder's networks: build, save and load any network of the second stage."""

from __future__ import annotations

from tag2mask.segmentation.build import build_segmenter
from tag2mask.segmentation.files import load_segmenter, save_segmenter
from tag2mask.segmentation.network import Segmenter

__all__ = ["Segmenter", "build_segmenter", "load_segmenter", "save_segmenter"]
