"""The stages of CAM: training the classifier, its maps, and its average precision."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tag2mask.backbones.settings import GAP, BackboneSettings, Pooling, weights_fingerprint
from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.stage_kinds import FeatureMapStage, Makes, MetricStage, SplitRole, TrainingStage
from tag2mask.training.settings import TrainSettings


class ClassifierSettings(Settings):
    """A classifier on tags: its network, its training, and whether images without tags take part."""

    backbone: BackboneSettings = Field(default=BackboneSettings(), description="network below the head")
    train: TrainSettings = Field(default=TrainSettings(), description="schedule, rates and crops")
    pooling: Pooling = Field(
        default=GAP,
        description="how the cells of a class's map make the image's score: {kind: gap}, {kind: top-k, share: 0.1}, "
        "{kind: lse, sharpness: 4}",
        json_schema_extra=UNPRINTED,
    )
    negatives: Literal["keep", "drop"] = Field(
        default="keep", description="images with an empty tag cell: none of the classes"
    )


class PrecisionSettings(Settings):
    """How the classifier is measured."""

    split: str | None = Field(None, description="a split of the data; null: data.val")


CLASSIFIER = TrainingStage(
    name="classifier",
    settings=ClassifierSettings,
    runner="tag2mask.methods.cam.stage:train",
    fingerprint=lambda settings: weights_fingerprint(settings.backbone),
    schedule=lambda settings: settings.train,
    check_data="tag2mask.methods.cam.stage:check_data",
    supervision=frozenset({"tags"}),
)
KINDS = (
    CLASSIFIER,
    FeatureMapStage(
        name="cam",
        settings=MapsSettings,
        reads={"classifier": Makes.WEIGHTS},
        probabilities=True,
        runner="tag2mask.methods.cam.stage:program",
    ),
    MetricStage(
        name="average-precision",
        settings=PrecisionSettings,
        reads={"classifier": Makes.WEIGHTS},
        runner="tag2mask.methods.cam.stage:measure",
        split=lambda settings: settings.split or SplitRole.VAL,
    ),
)
