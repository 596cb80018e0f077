"""The stages of the second stage: training a segmentation network, and its predictions."""

from __future__ import annotations

from tag2mask.config.settings import Settings
from tag2mask.methods.registry import StageKind
from tag2mask.segmentation.predict.options import PredictionSettings
from tag2mask.segmentation.settings import SegmenterSettings


def _weights(settings: Settings) -> str:
    assert isinstance(settings, SegmenterSettings)
    return settings.network.fingerprint()


def _supervision(settings: Settings) -> frozenset[str]:
    """Masks, where the truth trains or the first weights have seen some."""
    assert isinstance(settings, SegmenterSettings)
    own = frozenset({"pixel-masks"}) if settings.truth else frozenset()
    return own | settings.network.supervision()


KINDS = (
    StageKind(
        name="segmenter",
        makes="weights",
        settings=SegmenterSettings,
        reads={},
        may_read={"masks": "masks"},
        runner="tag2mask.segmentation.stage:train",
        split="train",
        fingerprint=_weights,
        supervision=_supervision,
        check="tag2mask.segmentation.stage:check",
        check_data="tag2mask.segmentation.stage:check_data",
    ),
    StageKind(
        name="predictions",
        makes="masks",
        settings=PredictionSettings,
        reads={"segmenter": "weights"},
        runner="tag2mask.segmentation.stage:program",
        version=2,
        split="val",
    ),
)
