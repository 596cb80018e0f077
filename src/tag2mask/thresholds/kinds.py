"""The stages that choose a threshold by a rule or on a few masks: settings, and the images they look at. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.files import value_hash
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.split_views import part_of
from tag2mask.evaluation.background import CONSTANT
from tag2mask.evaluation.threshold_rules.erased import NAME as ERASED
from tag2mask.evaluation.threshold_rules.rules import RULES, find_rule
from tag2mask.evaluation.threshold_rules.score_rules import SCORE_RULES, find_score_rule
from tag2mask.inference.settings import ScoreChoice, reads_raw
from tag2mask.methods.stage_kinds import Makes, SplitRole, StageKind, ThresholdStage
from tag2mask.thresholds.threshold_of import BackgroundRule

Scope = Literal["data", "class", "image"]


class RuleSettings(Settings):
    """A rule that reads the activations of one stage of maps."""

    evidence: ClassVar[str] = "histogram"

    rule: str = Field(default="otsu", description="name of the rule: what it looks for in the activations")
    per: Scope = Field(default="data", description="one threshold for all, for each class, or for each image")
    split: str | None = Field(default=None, description="a split of the data; null: the one whose maps were made")
    scores: ScoreChoice = "normalised"
    fallback: str = Field(
        default="otsu",
        description="rule in its place where it abstains, of raw scores per class",
        json_schema_extra=UNPRINTED,
    )
    share: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="of an image's cells, the highest, whose mean is the image's score: midpoint, compared",
        json_schema_extra=UNPRINTED,
    )
    quantile: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="of the cells of images without a class: negatives, compared",
        json_schema_extra=UNPRINTED,
    )

    @property
    def by_scores(self) -> bool:
        """Whether it is a rule of raw scores per class, which looks at images without a class too."""
        return self.evidence != "agreement" and self.scores == "raw" and self.per == "class"

    @property
    def erases(self) -> bool:
        """Whether it is the rule that erases."""
        return self.by_scores and self.evidence == "erasure"

    @field_validator("rule")
    @classmethod
    def _known(cls, name: str) -> str:
        more: Collection[str] = {"histogram": SCORE_RULES, "erasure": (ERASED,)}.get(cls.evidence, ())
        return name if name in more else _named(name, lambda known: find_rule(known, cls.evidence))

    @field_validator("fallback")
    @classmethod
    def _known_fallback(cls, name: str) -> str:
        return _named(name, find_score_rule)

    @model_validator(mode="after")
    def _together(self) -> Self:
        """Rules of raw scores per class are others than those of the normalised form."""
        fits = self.rule in (() if self.evidence == "agreement" else (ERASED,) if self.erases else SCORE_RULES)
        if self.by_scores and not fits:
            known = ERASED if self.erases else ", ".join(SCORE_RULES)
            raise ValueError(
                f"rule = '{self.rule}' is for normalised maps: expected {known} with scores=raw and per=class, or "
                "scores=normalised"
            )
        if not self.by_scores and self.rule in {*SCORE_RULES, ERASED} - set(RULES):
            raise ValueError(
                f"rule = '{self.rule}' compares raw scores of each class: set scores=raw and per=class, and raw=true "
                "of the stage of maps"
            )
        return self


def _named(name: str, find: Callable[[str], object]) -> str:
    try:
        find(name)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return name


class AgreementSettings(RuleSettings):
    """A rule that compares maps with other maps of the same images, such as those of one scale."""

    evidence: ClassVar[str] = "agreement"

    rule: str = Field(default="agreement", description="name of the rule: how two views are compared")


class ErasureSettings(RuleSettings):
    """A rule that shows a classifier the region above a threshold, and the rest."""

    evidence: ClassVar[str] = "erasure"

    rule: str = Field(default="classifier", description="name of the rule: what the classifier's answers are worth")
    images: int = Field(
        default=100, ge=1, description="images to show it; as many of each class with per=class; all with per=image"
    )
    fill: Literal["mean", "blur"] = Field(
        default="blur", description="what stands where the image is erased: the mean colour, or the image blurred"
    )


class SeedAgreementSettings(Settings):
    """A rule that goes by the refined seeds which a network learned from: one threshold for each class."""

    split: str | None = Field(default=None, description="a split of the data; null: the one whose maps were made")


def tagged(settings: RuleSettings, dataset: Dataset) -> list[Sample]:
    """The images that a rule looks at: those with tags; for the classifier a fixed part of them, in the split's order.

    A rule of raw scores per class looks at all images, whatever their tags.

    The part is of the images with the smallest hash of their id, so that an added image takes the place of one at most.
    """
    if settings.by_scores:
        return list(dataset.samples)
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


def _kind(
    name: str, settings: type[RuleSettings], more: Mapping[str, Makes], *, follows_background: bool = False
) -> ThresholdStage[RuleSettings]:
    return ThresholdStage(
        name=name,
        settings=settings,
        reads={"maps": Makes.MAPS, **more},
        runner="tag2mask.thresholds.stages:choose_by_rule",
        split=lambda own: own.split or SplitRole.INFER,
        samples=tagged,
        reads_raw=reads_raw,
        check_data="tag2mask.thresholds.by_scores:check_data",
        follows_background=follows_background,
    )


RULE_KINDS: tuple[StageKind[Any], ...] = (
    _kind("rule", RuleSettings, {}),
    _kind("rule-agreement", AgreementSettings, {"other": Makes.MAPS}),
    _kind("rule-classifier", ErasureSettings, {"classifier": Makes.WEIGHTS}, follows_background=True),
    ThresholdStage(
        name="rule-seeds",
        settings=SeedAgreementSettings,
        reads={"maps": Makes.MAPS, "seeds": Makes.MASKS},
        runner="tag2mask.thresholds.by_seeds:choose_by_seeds",
        split=lambda own: own.split or SplitRole.INFER,
        follows_background=True,
    ),
)


class FewMasksSettings(Settings):
    """Which hand-made masks a threshold is chosen on."""

    n: int = Field(default=100, ge=1, description="number of images; part of the ledger, and of the kind of threshold")
    images: Path | None = Field(
        default=None,
        description="text file with the n ids, one a line; null: the same n of a split in every run",
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one whose maps were made")
    background: BackgroundRule = Field(
        default=CONSTANT, description="rule by which maps are cut at every threshold", json_schema_extra=UNPRINTED
    )
    scores: ScoreChoice = "normalised"


def listed(settings: FewMasksSettings, dataset: Dataset) -> list[Sample]:
    """The images of the list, sorted by id.

    Without a file these are the n with the smallest hash of their id: every stage finds the same ones, and an image
    that is added to the data takes the place of one at most.
    """
    samples = _by_hash(settings, dataset) if settings.images is None else _by_name(settings.images, settings.n, dataset)
    return sorted(samples, key=lambda s: s.id)


def _by_hash(settings: FewMasksSettings, dataset: Dataset) -> list[Sample]:
    found: list[Sample] = []
    for sample in sorted(dataset.samples, key=lambda s: value_hash(["few-masks", s.id])):
        if _has_truth(dataset, sample):
            found.append(sample)
        if len(found) == settings.n:
            return found
    fewer = f"set n to {len(found)} or fewer" if found else "give masks"
    raise DataError(
        f"a threshold was to be chosen on {settings.n} masks, but {len(found)} images of split '{dataset.split}' have "
        f"one; {fewer}, or use a fixed threshold, which needs none"
    )


def _by_name(path: Path, n: int, dataset: Dataset) -> list[Sample]:
    samples = list(part_of(dataset, path).samples)
    if len(samples) != n:
        raise ConfigError(f"images = {path} lists {len(samples)} ids, but n = {n}; set n={len(samples)}")
    for sample in samples:
        if not _has_truth(dataset, sample):
            raise DataError(f"{path} lists '{sample.id}', which has no ground truth; take another, or give its mask")
    return samples


def _has_truth(dataset: Dataset, sample: Sample) -> bool:
    return sample.truth is not None or dataset.truth(sample) is not None


class BackgroundSettings(Settings):
    """How ``data.background=auto`` is decided."""

    images: int = Field(default=24, ge=6, description="images with one tag that are looked at, of each class at most")


def single_tagged(settings: BackgroundSettings, dataset: Dataset) -> list[Sample]:
    """The images whose cells are looked at: of each class those with one tag and the smallest hash of their id.

    Of many classes there are fewer of each, but never fewer than are needed.
    """
    alone = [s for s in dataset.samples if len(s.tags) == 1]
    each = _MOST // max(1, len({s.tags for s in alone}))
    return sampled(alone, max(_FEWEST, min(settings.images, each)), per_class=True)


_MOST, _FEWEST = 240, 6


KINDS = (
    ThresholdStage(
        name="background",
        settings=BackgroundSettings,
        makes=Makes.BACKGROUND,
        runner="tag2mask.thresholds.background:decide",
        split=SplitRole.TRAIN,
        supervision=frozenset({"tags"}),
    ),
    ThresholdStage(
        name="few-masks",
        settings=FewMasksSettings,
        reads={"maps": Makes.MAPS},
        runner="tag2mask.thresholds.stages:choose_on_few_masks",
        split=lambda settings: settings.split or SplitRole.INFER,
        reads_ground_truth=True,
        sidecars=lambda own: frozenset(own.background.sidecars),
        follows_background=True,
        supervision=lambda own: own.background.supervision | {f"pixel-masks:threshold({own.n})"},
        samples=listed,
        reads_raw=reads_raw,
    ),
    *RULE_KINDS,
)
