"""The stages of the second stage: training a segmentation network, and its predictions."""

from __future__ import annotations

from collections.abc import Mapping

from tag2mask.config.settings import Settings
from tag2mask.methods.stage_kinds import ImageStage, Makes, SplitRole, TrainingStage
from tag2mask.segmentation.predict.options import PredictionSettings
from tag2mask.segmentation.publish.provenance import how
from tag2mask.segmentation.settings import SegmenterSettings


def _supervision(settings: SegmenterSettings) -> frozenset[str]:
    """Masks, where ground truth trains or the first weights have seen some."""
    own = frozenset({"pixel-masks"}) if settings.truth else frozenset()
    return own | settings.network.supervision()


def _described(_: PredictionSettings, reads: Mapping[str, Settings]) -> str:
    """The network and its first weights."""
    source = reads["segmenter"]
    assert isinstance(source, SegmenterSettings)
    network, supervision = source.network, ", trained on the truth" if source.truth else ""
    return f"{network.kind} on {network.encoder}, first weights {network.initial}{supervision}"


KINDS = (
    TrainingStage(
        name="segmenter",
        settings=SegmenterSettings,
        may_read={"masks": Makes.MASKS},
        follows_background=True,
        runner="tag2mask.segmentation.stage:train",
        split=lambda settings: settings.split or SplitRole.TRAIN,
        reads_ground_truth=lambda settings: settings.truth,
        fingerprint=lambda settings: settings.network.fingerprint(),
        schedule=lambda settings: settings.train,
        supervision=_supervision,
        check="tag2mask.segmentation.stage:check",
        check_data="tag2mask.segmentation.stage:check_data",
    ),
    ImageStage(
        name="predictions",
        makes=Makes.MASKS,
        settings=PredictionSettings,
        reads={"segmenter": Makes.WEIGHTS},
        runner="tag2mask.segmentation.stage:program",
        version=2,
        photo_size=True,
        split=lambda settings: settings.split or SplitRole.VAL,
        described=_described,
        variant=lambda settings: how(settings.model_dump()),
    ),
)
