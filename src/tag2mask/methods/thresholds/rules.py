"""The stages that choose a threshold by a rule, from maps alone: settings, and which images they look at. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import value_hash
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.rules import find_rule
from tag2mask.methods.registry import Makes, StageKind

Scope = Literal["data", "class", "image"]


class RuleSettings(Settings):
    """A rule that reads the activations of one stage of maps."""

    evidence: ClassVar[str] = "histogram"

    rule: str = Field(default="otsu", description="name of the rule: what it looks for in the activations")
    per: Scope = Field(default="data", description="one threshold for all, for each class, or for each image")
    split: str | None = Field(default=None, description="a split of the data; null: the one whose maps were made")

    @field_validator("rule")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            find_rule(name, cls.evidence)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return name


class AgreementSettings(RuleSettings):
    """A rule that compares maps with other maps of the same images, such as those of one scale."""

    evidence: ClassVar[str] = "agreement"

    rule: str = Field(default="agreement", description="name of the rule: how two views are compared")


class ErasureSettings(RuleSettings):
    """A rule that asks a classifier about the region above a threshold, and about the rest."""

    evidence: ClassVar[str] = "erasure"

    rule: str = Field(default="classifier", description="name of the rule: what the classifier's answers are worth")
    images: int = Field(
        default=100, ge=1, description="images to ask about; as many of each class with per=class; all with per=image"
    )
    fill: Literal["mean", "blur"] = Field(
        default="blur", description="what stands where the image is erased: the mean colour, or the image blurred"
    )


def tagged(settings: RuleSettings, dataset: Dataset) -> list[Sample]:
    """The images that a rule looks at: those with tags; for the classifier a fixed part of them, in the split's order.

    The part is of the images with the smallest hash of their id, so that an added image takes the place of one at most.
    """
    samples = [s for s in dataset.samples if s.tags]
    if not isinstance(settings, ErasureSettings) or settings.per == "image":
        return samples
    return sampled(samples, settings.images, per_class=settings.per == "class")


def sampled(samples: list[Sample], n: int, *, per_class: bool) -> list[Sample]:
    """The n samples, or n of each class, with the smallest hash of their id; in their own order."""
    drawn = sorted(samples, key=lambda s: value_hash(["rule", s.id]))
    if not per_class:
        chosen = {s.id for s in drawn[:n]}
    else:
        classes = {c for s in samples for c in s.tags}
        chosen = {s.id for c in classes for s in [s for s in drawn if c in s.tags][:n]}
    return [s for s in samples if s.id in chosen]


def _kind(name: str, settings: type[RuleSettings], more: Mapping[str, Makes]) -> StageKind:
    return StageKind(
        name=name,
        makes="threshold",
        settings=settings,
        reads={"maps": "maps", **more},
        runner="tag2mask.methods.thresholds.rule_stage:choose_by_rule",
        samples=tagged,
        blind=True,
    )


RULE_KINDS = (
    _kind("rule", RuleSettings, {}),
    _kind("rule-agreement", AgreementSettings, {"other": "maps"}),
    _kind("rule-classifier", ErasureSettings, {"classifier": "weights"}),
)
