"""Settings and kinds of the stages that make label images from maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.evaluation.background import CONSTANT
from tag2mask.methods.registry import Makes, StageKind
from tag2mask.refine.crf.presets import PresetName
from tag2mask.thresholds.threshold_of import BackgroundRule, rule_of

Chosen = Literal["fixed", "published"]


class CRFSettings(Settings):
    """One dense CRF pass from hard labels."""

    preset: PresetName = Field(default="irn", description="kernels")
    iterations: int = Field(default=10, ge=1, description="of mean field")
    gt_prob: float = Field(default=0.7, gt=0, lt=1, description="how far a label is trusted")


class RefinedSeedsSettings(Settings):
    """Refined seeds: two thresholds, one CRF pass for each."""

    foreground: float = Field(
        default=0.45, ge=0, le=1, description="above it a class may be confident; unless a threshold is read"
    )
    background: float = Field(
        default=0.25, ge=0, le=1, description="below it the background may be confident; as foreground"
    )
    margin: float = Field(
        default=0.12, ge=0, le=1, description="with a threshold that is read: both lie this far from it"
    )
    threshold_kind: Chosen = Field(default="fixed", description="who chose foreground and background")
    crf: CRFSettings = Field(default_factory=CRFSettings)
    background_rule: BackgroundRule = Field(
        default=CONSTANT,
        description="rule by which maps are cut at both; background={kind: ...} sets it too",
        json_schema_extra=UNPRINTED,
    )

    @model_validator(mode="before")
    @classmethod
    def _rule_as_background(cls, given: Any) -> Any:
        """Take a rule where the lower threshold stands: elsewhere it is called ``background``."""
        if not isinstance(given, Mapping) or not isinstance(given.get("background"), str | Mapping):
            return given
        return {"background_rule": given["background"], **{k: v for k, v in given.items() if k != "background"}}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.background > self.foreground:
            raise ValueError(f"background {self.background:g} is above foreground {self.foreground:g}; exchange them")
        return self

    @property
    def threshold(self) -> float:
        """The middle of both thresholds, which stands for them in tables."""
        return round((self.foreground + self.background) / 2, 6)


class CutSettings(Settings):
    """One threshold, unless one is read."""

    threshold: float = Field(
        default=0.25, ge=0, le=1, description="maps are cut where they exceed it; unless one is read"
    )
    threshold_kind: Chosen = Field(default="fixed", description="who chose the threshold, and on what")
    background: BackgroundRule = Field(
        default=CONSTANT, description="rule by which maps are cut at the threshold", json_schema_extra=UNPRINTED
    )


class SeedCRFSettings(CutSettings):
    """One threshold and one CRF pass, every pixel labelled: the papers' "w/ CRF"."""

    crf: CRFSettings = Field(default_factory=CRFSettings)


def _kind(name: str, settings: type[Settings]) -> StageKind:
    reads: Mapping[str, Makes] = {"maps": "maps"}
    return StageKind(
        name=name,
        makes="masks",
        settings=settings,
        reads=reads,
        may_read={"threshold": "threshold"},
        runner=f"tag2mask.label_images.stage:{name.replace('-', '_')}",
        supervision=lambda own: rule_of(own).supervision,
    )


KINDS = (
    _kind("refined-seeds", RefinedSeedsSettings),
    _kind("seed-crf", SeedCRFSettings),
    _kind("pseudo-masks", CutSettings),
)
