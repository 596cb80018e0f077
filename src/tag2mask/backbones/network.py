"""The door of this folder: build, save and load the network of every method."""

from __future__ import annotations

from tag2mask.backbones.build import build_network, check_network
from tag2mask.backbones.files import load_network, save_network
from tag2mask.backbones.tagnet import Body, TagNet, freeze_statistics

__all__ = ["Body", "TagNet", "build_network", "check_network", "freeze_statistics", "load_network", "save_network"]
