"""Settings and kinds of the stages that make label images from maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.evaluation.background import CONSTANT, Background
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.inference.settings import ScoreChoice, reads_raw
from tag2mask.methods.stage_kinds import ImageStage, Makes, SplitRole, TrainingStage
from tag2mask.refine.crf.presets import PresetName
from tag2mask.thresholds.threshold_of import BackgroundRule

Chosen = Literal["fixed", "published"]


class CRFSettings(Settings):
    """One dense CRF pass from hard labels."""

    preset: PresetName = Field(default="irn", description="kernels")
    iterations: int = Field(default=10, ge=1, description="of mean field")
    gt_prob: float = Field(default=0.7, gt=0, lt=1, description="how far a label is trusted")
    full_width: float | None = Field(
        default=None,
        gt=0,
        description="pixels; the narrower than it the narrowest things of an image's seeds are, the nearer the kernels "
        "reach, so that these are not smoothed away; null: the preset's reach for all",
        json_schema_extra=UNPRINTED,
    )


class RefinedSeedsSettings(Settings):
    """Refined seeds: two thresholds, one CRF pass for each."""

    foreground: float = Field(
        default=0.45, ge=0, le=1, description="above it a class may be confident; unless a threshold is read"
    )
    background: float = Field(
        default=0.25, ge=0, le=1, description="below it the background may be confident; as foreground"
    )
    margin: float = Field(
        default=0.12, ge=0, le=3, description="with a threshold that is read: both lie this far from it"
    )
    margin_in: Literal["scores", "spread"] = Field(
        default="scores",
        description="what margin counts in: scores, or standard deviations of each class's scores in its images, which "
        "a rule of raw scores per class measures",
        json_schema_extra=UNPRINTED,
    )
    per_image: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="with margin_in=spread: of a class's threshold in an image, the share that is the image's own, "
        "Otsu's split of its map of the class; the rest is the threshold that is read",
        json_schema_extra=UNPRINTED,
    )
    threshold_kind: Chosen = Field(default="fixed", description="who chose foreground and background")
    crf: CRFSettings = Field(default_factory=CRFSettings)
    background_rule: BackgroundRule = Field(
        default=CONSTANT,
        description="rule by which maps are cut; background={kind: ...} sets it, the lower threshold being its default",
        json_schema_extra=UNPRINTED,
    )
    scores: ScoreChoice = "normalised"

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
        if self.margin_in == "scores" and self.margin > 1:
            raise ValueError(f"margin {self.margin:g} in scores is above 1, their range; set margin_in=spread or less")
        if self.per_image and self.margin_in == "scores":
            raise ValueError(f"per_image {self.per_image:g} is of thresholds in spreads; set margin_in=spread too")
        return self

    @property
    def threshold(self) -> float:
        """The middle of both thresholds, which stands for them in tables."""
        return round((self.foreground + self.background) / 2, 6)

    @property
    def rule(self) -> Background:
        """By which maps are cut."""
        return self.background_rule


class CutSettings(Settings):
    """One threshold, unless one is read."""

    threshold: float = Field(
        default=0.25, ge=0, le=1, description="maps are cut where they exceed it; unless one is read"
    )
    threshold_kind: Chosen = Field(default="fixed", description="who chose the threshold, and on what")
    background: BackgroundRule = Field(
        default=CONSTANT, description="rule by which maps are cut at the threshold", json_schema_extra=UNPRINTED
    )
    scores: ScoreChoice = "normalised"

    @property
    def rule(self) -> Background:
        """By which maps are cut."""
        return self.background


class SeedCRFSettings(CutSettings):
    """One threshold and one CRF pass, every pixel labelled: the papers' "w/ CRF"."""

    crf: CRFSettings = Field(default_factory=CRFSettings)


class PixelModelSettings(CutSettings):
    """Models of the pixels of things finer than their maps, learned from where these are active; others get none."""

    threshold: float = Field(
        default=0.5, ge=0, le=1, description="a map is active where it exceeds it; unless one is read"
    )
    worth: float = Field(
        default=0.2,
        ge=0,
        description="a class gets a model where what it finds in active regions of images held out is worth so much: "
        "the share that painting over it takes away of what the classifier's score loses with the whole regions, times "
        "how many times as large it is as the share of their area, times the share of them that a dense CRF takes away",
    )
    kept: float = Field(
        default=0.75,
        gt=0,
        description="none is tried where a dense CRF keeps more of the active regions, in the median: they are solid",
    )
    share: float = Field(
        default=0.08, gt=0, lt=1, description="of the pixels of each neighbourhood, those that count as the thing"
    )
    rounds: int = Field(default=4, ge=0, description="of learning, after the first from whole regions")
    images: int = Field(default=120, ge=1, description="of a class, and as many without it: a sample by seed")


C = TypeVar("C", RefinedSeedsSettings, CutSettings, SeedCRFSettings)


def _threshold(own: RefinedSeedsSettings | CutSettings) -> Threshold:
    return Threshold(own.threshold, own.threshold_kind, background=own.rule, scores=own.scores)


def _sidecars(own: RefinedSeedsSettings | CutSettings) -> frozenset[str]:
    return frozenset(own.rule.sidecars)


def _supervision(own: RefinedSeedsSettings | CutSettings) -> frozenset[str]:
    return own.rule.supervision


def _kind(name: str, settings: type[C], runner: str) -> ImageStage[C]:
    return ImageStage(
        name=name,
        makes=Makes.MASKS,
        settings=settings,
        reads={"maps": Makes.MAPS},
        may_read={"threshold": Makes.THRESHOLD, "pixels": Makes.WEIGHTS},
        runner=f"tag2mask.label_images.stage:{runner}",
        threshold=_threshold,
        sidecars=_sidecars,
        supervision=_supervision,
        follows_background=True,
        reads_raw=reads_raw,
        leaves_ignored=settings is RefinedSeedsSettings,
    )


KINDS = (
    _kind("refined-seeds", RefinedSeedsSettings, "refined_seeds"),
    _kind("seed-crf", SeedCRFSettings, "seed_crf"),
    _kind("pseudo-masks", CutSettings, "pseudo_masks"),
    TrainingStage(
        name="pixel-model",
        settings=PixelModelSettings,
        reads={"maps": Makes.MAPS, "classifier": Makes.WEIGHTS},
        may_read={"threshold": Makes.THRESHOLD},
        runner="tag2mask.label_images.pixel_model:train",
        split=SplitRole.INFER,
        threshold=_threshold,
        sidecars=_sidecars,
        supervision=_supervision,
        follows_background=True,
        reads_raw=reads_raw,
        reads_any=True,
    ),
)
