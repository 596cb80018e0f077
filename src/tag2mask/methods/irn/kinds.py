"""The stages of IRN: training the boundary network, and the walk of maps along its boundaries."""

from __future__ import annotations

from tag2mask.backbones.settings import starting_weights
from tag2mask.config.settings import Settings
from tag2mask.methods.irn.settings import IrnSettings, WalkSettings
from tag2mask.methods.registry import StageKind


def _weights(settings: Settings) -> str:
    assert isinstance(settings, IrnSettings)
    return starting_weights(settings.backbone, settings.checkpoint)


def _supervision(settings: Settings) -> frozenset[str]:
    """A checkpoint was trained by others on refined seeds of VOC, which came from VOC's tags."""
    assert isinstance(settings, IrnSettings)
    return frozenset() if settings.checkpoint is None else frozenset({"tags"})


KINDS = (
    StageKind(
        name="irn",
        makes="weights",
        settings=IrnSettings,
        reads={"seeds": "masks"},
        runner="tag2mask.methods.irn.stage:train",
        split="train",
        fingerprint=_weights,
        check_data="tag2mask.methods.irn.stage:check_data",
        supervision=_supervision,
    ),
    StageKind(
        name="irn-walk",
        makes="maps",
        settings=WalkSettings,
        reads={"irn": "weights", "maps": "maps"},
        runner="tag2mask.methods.irn.stage:program",
    ),
)
