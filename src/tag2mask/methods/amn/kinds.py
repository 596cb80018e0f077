"""The stages of AMN: training it, its maps, and its features for LPCAM."""

from __future__ import annotations

from collections.abc import Sequence

from tag2mask.backbones.settings import starting_weights
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.methods.amn.settings import AmnFeaturesSettings, AmnMapsSettings, AmnSettings
from tag2mask.methods.stage_kinds import ImageStage, Makes, SplitRole, TrainingStage


def _weights(settings: AmnSettings) -> str:
    return starting_weights(settings.backbone, settings.checkpoint, "AMN's res50_amn.pth")


def _reads_of(settings: AmnSettings, dataset: Dataset) -> Sequence[Sample]:
    return [s for s in dataset.samples if s.tags] if settings.negatives == "drop" else dataset.samples


AMN_MAPS = ImageStage(
    name="amn-maps",
    makes=Makes.MAPS,
    settings=AmnMapsSettings,
    reads={"amn": Makes.WEIGHTS},
    may_read={"seeds": Makes.MASKS},
    follows_background=True,
    learns_background=lambda settings: settings.normalise == "learned",
    runner="tag2mask.methods.amn.stage:program",
    check="tag2mask.methods.amn.stage:check_maps",
)
KINDS = (
    TrainingStage(
        name="amn",
        settings=AmnSettings,
        reads={"seeds": Makes.MASKS},
        may_read={"first": Makes.WEIGHTS},
        follows_background=True,
        runner="tag2mask.methods.amn.stage:train",
        split=lambda settings: settings.split or SplitRole.TRAIN,
        reads_of=_reads_of,
        fingerprint=_weights,
        schedule=lambda settings: settings.train if settings.checkpoint is None else None,
        check_data="tag2mask.methods.amn.stage:check_data",
        supervision=frozenset({"tags"}),
    ),
    AMN_MAPS,
    TrainingStage(
        name="amn-features",
        settings=AmnFeaturesSettings,
        reads={"amn": Makes.WEIGHTS},
        runner="tag2mask.methods.amn.stage:features",
    ),
)
