"""The stages of IRN: training the boundary network, and the walk of maps along its boundaries."""

from __future__ import annotations

from tag2mask.backbones.settings import starting_weights
from tag2mask.methods.irn.settings import IrnSettings, WalkSettings
from tag2mask.methods.stage_kinds import ImageStage, Makes, SplitRole, TrainingStage


def _supervision(settings: IrnSettings) -> frozenset[str]:
    """A checkpoint was trained by others on refined seeds of VOC, which came from VOC's tags."""
    return frozenset() if settings.checkpoint is None else frozenset({"tags"})


KINDS = (
    TrainingStage(
        name="irn",
        settings=IrnSettings,
        reads={"seeds": Makes.MASKS},
        may_read={"pixels": Makes.WEIGHTS},
        follows_background=True,
        runner="tag2mask.methods.irn.stage:train",
        split=lambda settings: settings.split or SplitRole.TRAIN,
        fingerprint=lambda settings: starting_weights(settings.backbone, settings.checkpoint),
        schedule=lambda settings: settings.train if settings.checkpoint is None else None,
        check_data="tag2mask.methods.irn.stage:check_data",
        supervision=_supervision,
    ),
    ImageStage(
        name="irn-walk",
        makes=Makes.MAPS,
        settings=WalkSettings,
        reads={"irn": Makes.WEIGHTS, "maps": Makes.MAPS},
        may_read={"pixels": Makes.WEIGHTS, "seeds": Makes.MASKS},
        runner="tag2mask.methods.irn.stage:program",
    ),
)
