"""The stages of CAM: training the classifier, and its maps."""

from __future__ import annotations

from tag2mask.backbones.settings import weights_fingerprint
from tag2mask.config.settings import Settings
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.cam.settings import ClassifierSettings
from tag2mask.methods.registry import StageKind


def _weights(settings: Settings) -> str:
    assert isinstance(settings, ClassifierSettings)
    return weights_fingerprint(settings.backbone)


KINDS = (
    StageKind(
        name="classifier",
        makes="weights",
        settings=ClassifierSettings,
        reads={},
        runner="tag2mask.methods.cam.stage:train",
        split="train",
        fingerprint=_weights,
        check_data="tag2mask.methods.cam.stage:check_data",
        supervision=frozenset({"tags"}),
    ),
    StageKind(
        name="cam",
        makes="maps",
        settings=MapsSettings,
        reads={"classifier": "weights"},
        runner="tag2mask.methods.cam.stage:program",
    ),
)
