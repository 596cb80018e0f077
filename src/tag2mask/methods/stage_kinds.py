"""The six classes of stage kind: what a kind declares of itself, so that the engine needs no name of a method.

What depends on settings is declared as a function of them, typed by the kind's own schema.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from tag2mask.config.settings import Settings
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.inference.settings import MapsSettings
from tag2mask.training.settings import ScheduleSettings

S = TypeVar("S", bound=Settings)
M = TypeVar("M", bound=MapsSettings)
T = TypeVar("T")


class Makes(Enum):
    """The type of a stage's artefact."""

    WEIGHTS = "weights"
    PROTOTYPES = "prototypes"
    MAPS = "maps"
    MASKS = "masks"
    THRESHOLD = "threshold"
    BACKGROUND = "background"
    METRICS = "metrics"

    def __str__(self) -> str:
        """As error texts and ``tag2mask ls`` write it."""
        return self.value


BACKGROUND = "background"
"""Role in which a kind that follows the background reads what was decided about it; recipes need not name it."""


class SplitRole(Enum):
    """The split that a stage works on: one of the data's three, or that of what the stage reads first."""

    TRAIN = "train"
    VAL = "val"
    INFER = "infer"
    READ = "read"


class Measures(Enum):
    """What the rows of a metric stage hold."""

    MIOU = "miou"
    """mIoU and the IoU of each class."""
    COVERAGE = "coverage"
    """Coverage and precision of refined seeds, which have ignored pixels and therefore no mIoU."""
    OTHER = "other"


def _for(value: T | Callable[[S], T], settings: S) -> T:
    """What a kind declares for all settings, or works out from those of a stage."""
    return value(settings) if callable(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKind(Generic[S]):
    """What every kind of stage declares; a kind is of one of the six classes below.

    Attributes:
        name: as recipes write it, such as ``cam``.
        settings: schema of its settings.
        runner: ``module:function``, called with a `StageContext`; what it returns is said by the class.
        makes: the type of its artefact.
        reads: role -> type of the artefact that is read in it.
        may_read: roles that a recipe may leave out, in the same form.
        same: role -> a role that what is read there has read too: both must be the same instance, as prototypes and
            classifier of one network must.
        version: raised whenever the output changes for the same settings; part of the key.
        split: the split that it works on: a role, or a name that its settings give.
        reads_ground_truth: whether ground truth is read; if so its hash is part of the key.
        sidecars: roles of the sidecar files that are read; their hashes are part of the key.
        supervision: what it adds to the ledger.
        follows_background: whether what the pixels of no class are (``data.background``) changes the output; it is part
            of the key then. To other kinds the data has a background.
        learns_background: whether its maps say themselves how likely the background is, for the rule ``learned``.
        fingerprint: hash of weight files that the settings name, part of the key.
        samples: the part of its split that a kind made as a whole looks at; None for all of it.
        threshold: at which it cuts maps where it reads none; None for a kind that cuts none.
        keeps_raw: whether raw scores lie beside the maps that it makes.
        reads_raw: whether it reads raw scores of the maps that it reads, in place of the normalised form.
        described: what stands in parentheses behind the method's name in tables, from its settings and the settings
            of what it reads, by role.
        check: ``module:function``, called with the settings and the roles that are read before a run begins, to raise
            what is wrong with them.
        check_reads: ``module:function``, called with the settings and those of what is read, by role, before a run
            begins, to raise what is wrong with them together.
        check_data: ``module:function``, called likewise with the settings and the split. It returns warnings, and
            raises what would stop the stage.
    """

    name: str
    settings: type[S]
    runner: str
    makes: Makes
    reads: Mapping[str, Makes] = field(default_factory=dict)
    may_read: Mapping[str, Makes] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    split: SplitRole | Callable[[S], SplitRole | str] = SplitRole.INFER
    reads_ground_truth: bool | Callable[[S], bool] = False
    sidecars: frozenset[str] | Callable[[S], frozenset[str]] = frozenset()
    supervision: frozenset[str] | Callable[[S], frozenset[str]] = frozenset()
    follows_background: bool = False
    learns_background: bool | Callable[[S], bool] = False
    fingerprint: Callable[[S], str] | None = None
    samples: Callable[[S, Dataset], Sequence[Sample]] | None = None
    threshold: Callable[[S], Threshold] | None = None
    keeps_raw: bool | Callable[[S], bool] = False
    reads_raw: bool | Callable[[S], bool] = False
    described: Callable[[S, Mapping[str, Settings]], str] | None = None
    check: str | None = None
    check_reads: str | None = None
    check_data: str | None = None

    per_image: ClassVar[bool] = False
    """Whether the artefact is one file an image, resumed and shared over processes image by image."""

    @property
    def roles(self) -> dict[str, Makes]:
        """Every role that a recipe may name, with the type of the artefact that is read in it."""
        ground = {BACKGROUND: Makes.BACKGROUND} if self.follows_background else {}
        return {**self.reads, **self.may_read, **ground}

    @property
    def first_role(self) -> str:
        """The role that it reads first."""
        return next(iter(self.reads))

    def split_of(self, settings: S) -> SplitRole | str:
        """The split that a stage with these settings works on."""
        return self.split(settings) if callable(self.split) else self.split

    def looks_at_ground_truth(self, settings: S) -> bool:
        """Whether a stage with these settings reads ground truth."""
        return _for(self.reads_ground_truth, settings)

    def learns_background_of(self, settings: S) -> bool:
        """Whether the maps of a stage with these settings know a background of their own."""
        return _for(self.learns_background, settings)

    def sidecars_of(self, settings: S) -> frozenset[str]:
        """The roles of the sidecar files that a stage with these settings reads."""
        return _for(self.sidecars, settings)

    def supervision_of(self, settings: S) -> frozenset[str]:
        """What a stage with these settings adds to the ledger."""
        return _for(self.supervision, settings)

    def raw_beside(self, settings: S) -> bool:
        """Whether the maps of a stage with these settings have raw scores beside them."""
        return _for(self.keeps_raw, settings)

    def raw_wanted(self, settings: S) -> bool:
        """Whether a stage with these settings reads raw scores."""
        return _for(self.reads_raw, settings)

    def load(self) -> Callable[[Any], Any]:
        """Import and return the runner."""
        return _function(self.runner)

    def validate(self, settings: S, roles: Iterable[str]) -> None:
        """Find what is wrong with settings that their schema does not see: files, names, roles.

        Raises:
            Tag2MaskError: what is wrong.
        """
        if self.fingerprint is not None:
            self.fingerprint(settings)
        if self.check is not None:
            _function(self.check)(settings, frozenset(roles))

    def validate_reads(self, settings: S, read: Mapping[str, Settings]) -> None:
        """Find what is wrong with settings together with those of what is read, by role.

        Raises:
            Tag2MaskError: what is wrong.
        """
        if self.check_reads is not None:
            _function(self.check_reads)(settings, read)

    def validate_data(self, settings: S, dataset: Dataset) -> Sequence[str]:
        """Check that a split suits a stage with these settings; returns warnings.

        Raises:
            Tag2MaskError: what would stop the stage.
        """
        if self.samples is not None:
            self.samples(settings, dataset)
        found: Sequence[str] = () if self.check_data is None else _function(self.check_data)(settings, dataset)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStage(StageKind[S]):
    """Weights or prototypes, made as a whole from a split; the seed is part of the key.

    The runner writes into ``context.out`` and returns nothing.

    Attributes:
        schedule: that it trains by; None where these settings train nothing, such as with a checkpoint.
        reads_of: the samples whose files of other stages it reads; None for its whole split.
        reads_any: it reads the files of a part of its split only, and which is known when it runs.
    """

    makes: Makes = Makes.WEIGHTS
    split: SplitRole | Callable[[S], SplitRole | str] = SplitRole.TRAIN
    schedule: Callable[[S], ScheduleSettings | None] | None = None
    reads_of: Callable[[S, Dataset], Sequence[Sample]] | None = None
    reads_any: bool = False

    def schedule_of(self, settings: S) -> ScheduleSettings | None:
        """The schedule that a stage with these settings trains by."""
        return None if self.schedule is None else self.schedule(settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMapStage(StageKind[M]):
    """Maps from a network's features: stages on one network and with the same scales share its forward passes.

    The runner returns a `MapsProgram`.

    Attributes:
        probabilities: a raw score of 0.5 is the classifier's probability one half.
        levels: whether its features are the network's levels, from the settings of what it reads, by role.
    """

    makes: Makes = field(default=Makes.MAPS, init=False)
    probabilities: bool = False
    levels: Callable[[Mapping[str, Settings]], bool] = lambda read: False
    keeps_raw: bool | Callable[[M], bool] = lambda settings: settings.raw

    per_image: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStage(StageKind[S]):
    """Maps or masks, one file per image from other files. The runner returns an `ImageProgram`.

    Attributes:
        photo_size: masks have the photos' own sizes, where all else has the working size of ``data.max_side``.
        leaves_ignored: its masks leave the pixels ignored (255) that they are not confident of, so they have no mIoU.
        variant: for predictions of a network: in which way these settings make them, in words; None for other files.
    """

    photo_size: bool = False
    leaves_ignored: bool = False
    variant: Callable[[S], str] | None = None

    per_image: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdStage(StageKind[S]):
    """What maps are cut by: a threshold, chosen on a few masks or by a rule, or whether the data has a background.

    The runner writes ``threshold.json`` or, where it makes a background, ``background.json``, and returns nothing.
    """

    makes: Makes = Makes.THRESHOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStage(StageKind[S]):
    """Numbers about what it reads in its first role. The runner writes ``metrics.jsonl`` and returns nothing.

    Attributes:
        measures: what these numbers are.
    """

    makes: Makes = field(default=Makes.METRICS, init=False)
    split: SplitRole | Callable[[S], SplitRole | str] = SplitRole.READ
    reads_ground_truth: bool | Callable[[S], bool] = True
    measures: Measures | Callable[[S], Measures] = Measures.OTHER

    def measures_of(self, settings: S) -> Measures:
        """What the numbers of a stage with these settings are."""
        return _for(self.measures, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceStage(StageKind[S]):
    """One of several artefacts of the type ``makes``, with the reasons; whatever reads the stage follows to that one.

    Recipes name the candidates under roles of their own, such as ``reads: {a: cam, b: lpcam}``; ``reads`` and
    ``may_read`` of the kind are further roles, for what decides. The runner is called in one process and returns a
    `Choice`.
    """

    split: SplitRole | Callable[[S], SplitRole | str] = SplitRole.READ

    def candidates(self, roles: Iterable[str]) -> list[str]:
        """The roles among ``roles`` that a choice is made from."""
        return [role for role in roles if role not in self.reads and role not in self.may_read]


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
