"""The finished output of a stage, as later stages read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DamagedError, StageError
from tag2mask.core.files import read_json, write_json
from tag2mask.core.manifest import MANIFEST, read_manifest, sealed, unsealed
from tag2mask.core.palette import read_keyed
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Ground
from tag2mask.data.split_views import fitted_size, resized_labels
from tag2mask.evaluation.thresholds import Levels, ScoreForm, Threshold
from tag2mask.inference.maps_file import check_maps, read_maps
from tag2mask.methods.stage_kinds import ChoiceStage, ImageStage, Makes, StageKind

T = TypeVar("T")
THRESHOLD, CHOICE, DECIDED = "threshold.json", "choice.json", "background.json"
FOLDERS = {Makes.MAPS: ("maps", ".npz"), Makes.MASKS: ("masks", ".png")}
"""Folder and ending of the files of a stage that makes one file an image, by what it makes."""


@dataclass(frozen=True, slots=True)
class FewMasks:
    """A threshold that was chosen on a few hand-made masks.

    Attributes:
        value: 0..1.
        n: number of images it was chosen on.
        ids: of those images; what is measured with this threshold leaves them out.
        miou: percent, of seeds cut from these images' maps at the threshold.
    """

    value: float
    n: int
    ids: tuple[str, ...]
    miou: float

    def write(self, folder: Path) -> None:
        """Write ``threshold.json``."""
        write_json(folder / THRESHOLD, asdict(self))

    def as_threshold(self) -> Threshold:
        """What stages cut at."""
        return Threshold(self.value, "few-masks", self.n)


@dataclass(frozen=True, slots=True)
class Ruled:
    """A threshold, or one for each class or image, that a rule has chosen from maps alone.

    Attributes:
        value: 0..1, of the data set: what a class or an image without a threshold of its own is cut at.
        rule: name of the rule.
        per: what there is a threshold for: ``data``, ``class`` or ``image``.
        n: number of images it was chosen from.
        classes: (name, threshold or None) by class column, for ``class`` only.
        images: (id, threshold), for ``image`` only.
        spreads: (name, standard deviation of its scores or None) by class column, for rules of raw scores only.
    """

    value: float
    rule: str
    per: str
    n: int
    classes: tuple[tuple[str, float | None], ...] = ()
    images: tuple[tuple[str, float], ...] = ()
    spreads: tuple[tuple[str, float | None], ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """None: a rule reads no ground truth, so nothing is left out of what is measured with it."""
        return ()

    def write(self, folder: Path) -> None:
        """Write ``threshold.json``."""
        write_json(folder / THRESHOLD, asdict(self))

    def as_threshold(self) -> Threshold:
        """What stages cut at."""
        if self.per == "data":
            return Threshold(self.value, "rule", rule=self.rule)
        classes, spreads = (tuple(value for _, value in pairs) for pairs in (self.classes, self.spreads))
        levels = Levels(self.value, classes, dict(self.images), spreads)
        return Threshold(None, "rule", rule=f"{self.rule}/{self.per}", levels=levels)


_PAIRS = ("classes", "images", "spreads")
"""Fields of `Ruled` that a file keeps as pairs."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about the pixels of no class.

    Attributes:
        background: ``present`` or ``none``.
        reason: the evidence, in words.
        scores: in numbers.
    """

    background: Ground
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Decision, evidence, and how to decide otherwise."""
        other = "none" if self.background == "present" else "present"
        what = "the data has a background" if self.background == "present" else "every pixel is of a class"
        return f"{what}: {self.reason}. If that is wrong, set data.background={other}"

    def write(self, folder: Path) -> None:
        """Write ``background.json``."""
        write_json(folder / DECIDED, sealed(asdict(self)))

    @classmethod
    def read(cls, folder: Path, command: str) -> Decided:
        """Read ``background.json``.

        Raises:
            DamagedError: it is not what was written.
        """
        path = folder / DECIDED
        try:
            values = unsealed(read_json(path), path)
            if values["background"] not in get_args(Ground):
                raise ValueError(f"background = {values['background']!r:.40}")
            return cls(values["background"], str(values["reason"]), dict(values["scores"]))
        except (StageError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not what was decided ({error}). Rerun: {command}") from error


@dataclass(frozen=True, slots=True)
class Choice:
    """What a `ChoiceStage` has chosen, and why.

    Attributes:
        role: of the chosen artefact among those that the stage reads.
        reasons: in words, the decisive one first.
        scores: role -> what the candidates were compared by; None where undefined.
        ids: of the images whose ground truth decided; what is measured on the chosen artefact leaves them out.
    """

    role: str
    reasons: tuple[str, ...]
    scores: Mapping[str, float | None] = field(default_factory=dict)
    ids: tuple[str, ...] = ()

    def write(self, folder: Path, output: str) -> None:
        """Write ``choice.json``, with what stands for the chosen output in the keys of later stages."""
        write_json(folder / CHOICE, {**asdict(self), "output": output})

    @classmethod
    def read(cls, folder: Path, command: str) -> Choice:
        """Read ``choice.json``.

        Raises:
            DamagedError: it is not what was written.
        """
        path = folder / CHOICE
        try:
            values = read_json(path)
            return cls(values["role"], tuple(values["reasons"]), dict(values["scores"]), tuple(values["ids"]))
        except (StageError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not what was chosen ({error}). Rerun: {command}") from error


@dataclass(frozen=True, slots=True)
class Artefact:
    """The finished output of another stage.

    Attributes:
        name: the instance's name in the recipe.
        path: the folder with its files in the store.
        key: its stage key.
        sample_key: for maps and masks, the key that the file of a sample must carry.
        settings: of the stage that made it.
        reads: what that stage read, by role.
        command: makes what is missing of it.
        kind: of the stage that made it.
        base_name: ``name`` without the suffix of its seed.
        sidecars: roles of the images' sidecars that it was made from, sorted.
        background: what the pixels of no class were to the stage that made it.
        choice: why it was chosen, for the artefact of a `ChoiceStage`; the other fields but the names are those of the
            chosen artefact.
        considered: what that stage read, the chosen artefact among it.
        chosen_in: the folder of that stage in the store.
    """

    name: str
    path: Path
    key: str
    sample_key: Callable[[Dataset, Sample], str]
    settings: Any = None
    reads: Mapping[str, Artefact] = field(default_factory=dict)
    command: str = "tag2mask run RECIPE --out RUN"
    kind: StageKind[Any] | None = None
    base_name: str = ""
    sidecars: tuple[str, ...] = ()
    background: Ground = "present"
    choice: Choice | None = None
    considered: tuple[Artefact, ...] = ()
    chosen_in: Path | None = None

    @property
    def folder(self) -> Path:
        """The stage's own folder in the store, with its manifest; that of the chosen artefact is ``path``."""
        return self.chosen_in or self.path

    def followed(self) -> Artefact:
        """The artefact itself; of a `ChoiceStage` the one that it has chosen, under the name of the stage.

        Raises:
            DamagedError: the file of the choice is not what was written.
        """
        if not isinstance(self.kind, ChoiceStage):
            return self
        choice = Choice.read(self.path, self.command)
        if choice.role not in self.reads:
            raise DamagedError(f"{self.path / CHOICE} names '{choice.role}', which is not read: {self.command}")
        return replace(
            self.reads[choice.role],
            name=self.name,
            base_name=self.base_name,
            choice=choice,
            considered=tuple(self.reads.values()),
            chosen_in=self.path,
        )

    def ledger(self) -> frozenset[str]:
        """Supervision behind it, as its manifest holds it; of a choice, behind all that was considered.

        Raises:
            StageError: it has no manifest, or a damaged one.
        """
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise StageError(f"stage '{self.name}' has no {self.folder / MANIFEST}; make it: {self.command}")
        return frozenset(manifest.ledger)

    def choices(self) -> dict[str, str]:
        """What was chosen behind it and why, in words, by the stage that chose."""
        found: dict[str, str] = {}
        for source in (*self.reads.values(), *self.considered):
            found |= source.choices()
        if self.kind is not None and self.kind.makes is Makes.BACKGROUND:
            found[self.name] = self.decided().text
        if self.choice is not None:
            chosen = next(one.name for one in self.considered if one.path == self.path)
            found[self.name] = f"'{chosen}' is chosen: {'; '.join(self.choice.reasons)}"
        return found

    def described(self) -> str:
        """What its kind says of it for tables, such as the network behind predictions; empty for nothing."""
        if self.kind is None or self.kind.described is None:
            return ""
        return self.kind.described(self.settings, {role: source.settings for role, source in self.reads.items()})

    def variant(self) -> str:
        """In which way predictions of a network were made, in words; empty for other files."""
        makes = self.kind.variant if isinstance(self.kind, ImageStage) else None
        return "" if makes is None else makes(self.settings)

    def maps(self, dataset: Dataset, sample: Sample, scores: ScoreForm = "normalised") -> ActivationMaps:
        """The maps of one sample, stride 4, float32; with ``raw`` the raw scores stand in their place, in [0, 1] too.

        Raises:
            StageError: they are missing or damaged, were made from another image, other tags or in another run, or have
                no raw scores beside them.
            DataError: they hold NaN or values outside 0..1, are of no class of the data, or of the wrong size.
        """
        found = self._whole(read_maps, self._existing(Makes.MAPS, dataset, sample))
        self._check_key(found.key, Makes.MAPS, dataset, sample)
        check_maps(found.maps, found.size, len(dataset.classes), f"'{sample.id}' in stage '{self.name}'")
        if scores == "normalised":
            return found.maps
        if found.maps.raw is None and found.maps.classes:
            raise StageError(
                f"the maps of image '{sample.id}' in stage '{self.name}' have no raw scores: set {self.name}.raw=true "
                f"where it has that setting, else scores=normalised of the stage that reads them. Rerun: {self.command}"
            )
        return replace(found.maps, maps=found.maps.maps if found.maps.raw is None else found.maps.raw)

    def labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        """The label image of one sample at the size of its image, (H, W) uint8, 255 where not confident.

        Raises:
            StageError: it is missing or damaged, or was made from another image, other tags or in another run.
        """
        labels = self.stored_labels(dataset, sample)
        height, width = labels.shape
        return resized_labels(labels, *fitted_size(height, width, dataset.max_side, dataset.min_side))

    def stored_labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        """The label image of one sample as it was made: predictions have the photo's size, not the working size."""
        labels, key = self._whole(read_keyed, self._existing(Makes.MASKS, dataset, sample))
        self._check_key(key, Makes.MASKS, dataset, sample)
        return labels

    def threshold(self) -> FewMasks | Ruled:
        """The threshold that a `ThresholdStage` has chosen.

        Raises:
            StageError: there is none, or it is damaged.
        """
        path = self.path / THRESHOLD
        if not path.is_file():
            raise StageError(f"stage '{self.name}' has no {path}; make it: {self.command}")
        try:
            values = read_json(path)
            if "rule" not in values:
                return FewMasks(**{**values, "ids": tuple(values["ids"])})
            pairs = {name: tuple((key, value) for key, value in values.get(name, ())) for name in _PAIRS}
            return Ruled(**{**values, **pairs})
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not what was chosen ({error}). Rerun: {self.command}") from error

    def decided(self) -> Decided:
        """What a stage has decided about the pixels of no class.

        Raises:
            DamagedError: it is not there, or not what was written.
        """
        return Decided.read(self.path, self.command)

    def masks_seen(self) -> frozenset[str]:
        """Ids of the images whose ground truth decided something about this artefact or any that it was made from."""
        own = frozenset(self.threshold().ids) if (self.path / THRESHOLD).is_file() else frozenset()
        own |= frozenset(self.choice.ids if self.choice else ())
        return own.union(*(artefact.masks_seen() for artefact in (*self.reads.values(), *self.considered)))

    def upstream(self) -> list[Artefact]:
        """The artefact and all that it was made from, the nearest first, each once."""
        found = [self]
        for artefact in found:
            known = {id(one) for one in found}
            found += [one for one in artefact.reads.values() if id(one) not in known]
        return found

    def _whole(self, read: Callable[[Path], T], path: Path) -> T:
        """What ``read`` gives of a file; the error of a damaged one names the command that remakes it."""
        try:
            return read(path)
        except DamagedError as error:
            raise DamagedError(f"{error}: {self.command}") from error

    def _existing(self, makes: Makes, dataset: Dataset, sample: Sample) -> Path:
        folder, ending = FOLDERS[makes]
        path = self.path / folder / f"{sample.id}{ending}"
        if not path.exists():
            raise StageError(
                f"stage '{self.name}' has no {makes} of image '{sample.id}' ({path}). Make them: {self.command}. If "
                f"that is what you ran, the stage does not work on split '{dataset.split}': set {self.name}.split "
                "where it has that setting, else the split of the data that it works on (data.val for predictions, "
                "data.infer for others), to one that holds the image"
            )
        return path

    def _check_key(self, key: str | None, makes: Makes, dataset: Dataset, sample: Sample) -> None:
        if key != self.sample_key(dataset, sample):
            raise StageError(
                f"the {makes} of image '{sample.id}' in stage '{self.name}' ({self.path}) were made from another "
                f"image, with other tags or in another run. Rerun: {self.command}"
            )
