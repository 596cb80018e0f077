"""The stages that make label images from maps."""

from __future__ import annotations

from collections.abc import Mapping

from tag2mask.methods.refined.settings import CutSettings, RefinedSeedsSettings, SeedCRFSettings
from tag2mask.methods.registry import Makes, StageKind

_READS: Mapping[str, Makes] = {"maps": "maps"}
_MAY_READ: Mapping[str, Makes] = {"threshold": "threshold"}

KINDS = (
    StageKind(
        name="refined-seeds",
        makes="masks",
        settings=RefinedSeedsSettings,
        reads=_READS,
        may_read=_MAY_READ,
        runner="tag2mask.methods.refined.stage:refined_seeds",
    ),
    StageKind(
        name="seed-crf",
        makes="masks",
        settings=SeedCRFSettings,
        reads=_READS,
        may_read=_MAY_READ,
        runner="tag2mask.methods.refined.stage:seed_crf",
    ),
    StageKind(
        name="pseudo-masks",
        makes="masks",
        settings=CutSettings,
        reads=_READS,
        may_read=_MAY_READ,
        runner="tag2mask.methods.refined.stage:pseudo_masks",
    ),
)
