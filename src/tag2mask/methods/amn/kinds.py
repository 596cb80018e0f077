"""The stages of AMN: training it, its maps, and its features for LPCAM."""

from __future__ import annotations

from tag2mask.backbones.settings import starting_weights
from tag2mask.config.settings import Settings
from tag2mask.methods.amn.settings import AmnFeaturesSettings, AmnMapsSettings, AmnSettings
from tag2mask.methods.registry import StageKind


def _weights(settings: Settings) -> str:
    assert isinstance(settings, AmnSettings)
    return starting_weights(settings.backbone, settings.checkpoint, "AMN's res50_amn.pth")


KINDS = (
    StageKind(
        name="amn",
        makes="weights",
        settings=AmnSettings,
        reads={"seeds": "masks"},
        runner="tag2mask.methods.amn.stage:train",
        split="train",
        fingerprint=_weights,
        check_data="tag2mask.methods.amn.stage:check_data",
        supervision=frozenset({"tags"}),
    ),
    StageKind(
        name="amn-maps",
        makes="maps",
        settings=AmnMapsSettings,
        reads={"amn": "weights"},
        may_read={"seeds": "masks"},
        runner="tag2mask.methods.amn.stage:program",
        check="tag2mask.methods.amn.stage:check_maps",
    ),
    StageKind(
        name="amn-features",
        makes="weights",
        settings=AmnFeaturesSettings,
        reads={"amn": "weights"},
        runner="tag2mask.methods.amn.stage:features",
        split="train",
    ),
)
