"""A finished run, opened: its plan, stages, artefacts, data and numbers. No stage is rerun.

`tag2mask.open_run` gives it; every command that looks at a run goes through it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tag2mask.config.recipe import Recipe
from tag2mask.core.errors import ConfigError, DamagedError, DataError, StageError, command, unknown
from tag2mask.core.links import PACKED, is_link, not_finished, resuming
from tag2mask.core.manifest import MANIFEST, read_manifest
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data import registry
from tag2mask.data.base import Dataset
from tag2mask.data.split_views import on_ground
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import BACKGROUND, Makes, MetricStage
from tag2mask.pipeline.keys import keys_of
from tag2mask.pipeline.plan import PlannedStage, make_plan, measured_by
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import collect_metrics
from tag2mask.pipeline.session import Done, artefact_of, ground_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class StageFiles(Generic[T]):
    """The maps or masks that a stage has made, read one image at a time.

    Iterating gives each sample of the split with what the stage has made of it.

    Attributes:
        run: that holds them.
        stage: that made them.
        artefact: where they are.
        dataset: the split that they are looked at on.
    """

    run: OpenedRun
    stage: PlannedStage
    artefact: Artefact
    dataset: Dataset
    _read: Callable[[Artefact, Dataset, Sample], T]

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage.name

    @property
    def method(self) -> str:
        """Name of the stage without its seed."""
        return self.stage.base_name

    def read(self, sample: Sample) -> T:
        """What was made of one sample; raises as `Artefact.maps` and `Artefact.labels` do."""
        return self._read(self.artefact, self.dataset, sample)

    def __repr__(self) -> str:
        return f"<{len(self)} {self.stage.kind.makes} of stage '{self.name}' of {self.run.path}>"

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[Sample, T]]:
        return ((sample, self.read(sample)) for sample in self.dataset.samples)


OpenedMaps = StageFiles[ActivationMaps]
OpenedMasks = StageFiles[NDArray[np.uint8]]


class OpenedRun:
    """A run that was made before, whole or in part.

    Opening reads the recipe; data and artefacts are opened when they are needed, each once.

    Args:
        path: the run folder, also of a packed run.
        root: folder of the data, where they have moved since (``data.root`` of the recipe otherwise).

    Attributes:
        path: the run folder.
        root: as given.
        folder: the run on disk.
        plan: the checked recipe, with ``root``.
        stages: name -> stage, in the order of the plan.
        keys: sample keys and hashes of files.

    Raises:
        StageError: there is no run.
        ConfigError: its recipe was damaged, or is of another version.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None) -> None:
        self.path, self.root = Path(path), None if root is None else Path(root)
        self.folder = RunFolder.existing(self.path)
        recipe = self.folder.recipe()
        self.plan = make_plan(recipe if self.root is None else _moved(recipe, self.root))
        self.stages = {stage.name: stage for stage in self.plan.stages}
        self.keys = keys_of(self.folder.store.root)
        self._done: dict[str, Done] = {}
        self._splits: dict[str, Dataset] = {}

    def __repr__(self) -> str:
        return (
            f"<run {self.path} of recipe '{self.plan.recipe.name}': {len(self.finished)} of {len(self.stages)} stages>"
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The run as words of a command that looks at it."""
        return (str(self.path), *(() if self.root is None else ("--root", str(self.root))))

    @property
    def command(self) -> str:
        """The command that resumes the run, and reruns what is missing of it."""
        return resuming(self.path, *([] if self.root is None else [f"data.root={self.root}"]))

    @property
    def packed(self) -> bool:
        """Whether its store lies in its folder, so that it may be anywhere, without the data that it was made of."""
        return (self.path / PACKED).is_dir()

    @property
    def has_data(self) -> bool:
        """Whether the folder of the data is there."""
        root = self.plan.data.root
        return root is None or root.expanduser().is_dir()

    def stage(self, name: str) -> PlannedStage:
        """A stage by its name."""
        if name not in self.stages:
            raise ConfigError(unknown("stage", name, self.stages))
        return self.stages[name]

    def making(self, what: Makes, names: Sequence[str] = ()) -> list[PlannedStage]:
        """The stages that make ``what``, finished or not: those of these names, all of them where there is none."""
        makers = {name: s for name, s in self.stages.items() if s.kind.makes is what}
        if not makers:
            raise ConfigError(
                f"the recipe of {self.path} has no stage that makes {what}; use one that does: tag2mask ls recipes"
            )
        for name in names:
            if name in makers:
                continue
            if name not in self.stages:
                raise ConfigError(unknown(f"stage of {what}", name, makers))
            raise ConfigError(
                f"stage '{name}' makes {self.stages[name].kind.makes}, but {what} are needed. Stages of {what}: "
                f"{', '.join(makers)}"
            )
        return [makers[name] for name in dict.fromkeys(names)] or list(makers.values())

    def is_finished(self, name: str) -> bool:
        """Whether a stage of the recipe is made."""
        return (self.folder.artefact(name) / MANIFEST).is_file()

    @property
    def finished(self) -> dict[str, PlannedStage]:
        """The stages that are made, by name."""
        return {name: stage for name, stage in self.stages.items() if self.is_finished(name)}

    def check_links(self) -> None:
        """Refuse a run that was copied without its store, before it is said that nothing of it is finished."""
        lost = [n for n in self.stages if is_link(self.path / n) and not self.folder.artefact(n).exists()]
        if lost:
            raise not_finished(self.path, lost[0])

    def artefact(self, name: str) -> Artefact:
        """What a finished stage has made, with all that it was made from.

        Raises:
            ConfigError: there is no such stage.
            StageError: it is not finished, or what was trained or chosen in it is not what was made any more.
        """
        return self.done(name).artefact

    def done(self, name: str) -> Done:
        """A finished stage with its artefact and manifest; raises as `artefact`."""
        if name not in self._done:
            self._done[name] = self._open(self.stage(name))
        return self._done[name]

    def _open(self, stage: PlannedStage) -> Done:
        path = self.folder.artefact(stage.name)
        try:
            manifest = read_manifest(path)
        except DamagedError as error:
            raise StageError(f"{error}. Rerun stage '{stage.name}': {self.command}") from error
        if manifest is None:
            raise not_finished(self.path, stage.name)
        # Files that are gone are reported by whoever needs them; numbers are read row by row.
        if not isinstance(stage.kind, MetricStage):
            self._check(stage.name, path, manifest.changed(path, self.keys.hashes.file))
        reads = {role: self.artefact(source) for role, source in stage.reads.items()}
        ground = ground_of(stage, self.plan, reads.get(BACKGROUND))
        made = artefact_of(stage, path.resolve(), manifest.key, self.keys, reads, self.command, ground)
        return Done(stage, made, manifest)

    def check_files(self, name: str) -> None:
        """See that every file of a finished stage that was made as a whole is what was made."""
        done = self.done(name)
        path, manifest = done.artefact.folder, done.manifest
        self._check(name, path, [*manifest.gone(path), *manifest.changed(path, self.keys.hashes.file)])

    def _check(self, name: str, path: Path, wrong: Sequence[str]) -> None:
        if wrong:
            raise StageError(
                f"files of stage '{name}' of {self.path} are gone or changed; resume: {self.command} (the first of "
                f"them is {path / wrong[0]})"
            )

    def split_of(self, stage: str | PlannedStage) -> str:
        """Name of the split that a stage goes over."""
        planned = self.stage(stage) if isinstance(stage, str) else stage
        split = self.plan.split_of(planned)
        if split is None:
            raise StageError(f"stage '{planned.name}' made nothing, as data.val was null: rerun it with a split there")
        return split

    def dataset(self, stage: str | PlannedStage) -> Dataset:
        """The split that a stage goes over, opened once.

        Raises:
            StageError: the data has no such split.
            DataError: it cannot be opened; where the data have moved, the text says how to name their new place.
        """
        planned = self.stage(stage) if isinstance(stage, str) else stage
        return self._on_ground_of(planned, self.split(self.split_of(planned)))

    def _on_ground_of(self, stage: PlannedStage, dataset: Dataset) -> Dataset:
        """The split with what the pixels of no class were to a stage."""
        decided = stage.reads.get(BACKGROUND)
        made = self.artefact(decided) if decided is not None and self.is_finished(decided) else None
        return on_ground(dataset, ground_of(stage, self.plan, made))

    def split(self, name: str) -> Dataset:
        """A split of the data, by its name."""
        if name not in self._splits:
            try:
                self._splits[name] = registry.open_split(self.plan.data_kind, self.plan.data, name)
            except DataError as error:
                raise self._no_data(error) from error
        return self._splits[name]

    def _no_data(self, error: DataError) -> DataError:
        """The error of a reader, with ``--root`` in place of the recipe's ``data.root=``."""
        if self.has_data:
            return DataError(re.sub(r"\bdata\.root=", "--root ", str(error)))
        if self.root is not None:
            return DataError(f"--root {self.root} is not a folder: name the one that data.root of {self.path} was")
        packed = ": the run was packed without its photos, which this needs" if self.packed else ""
        return DataError(
            f"data.root = {self.plan.data.root} of {self.path} is not there{packed}. Name the folder where the data "
            f"lie now with --root, as in: {command('eval', self.path, '--root', 'FOLDER')}"
        )

    def maps(self, stage: str, split: str | None = None) -> OpenedMaps:
        """The maps that a stage has made.

        Args:
            stage: its name.
            split: to look at them on; None means the one whose maps were made.

        Raises:
            ConfigError: there is no such stage, or it makes no maps.
            StageError: it is not finished.
            DataError: the data cannot be read.
        """
        return self._files(Makes.MAPS, stage, split, Artefact.maps)

    def masks(self, stage: str, split: str | None = None) -> OpenedMasks:
        """The masks that a stage has made; arguments and errors as for `maps`."""
        return self._files(Makes.MASKS, stage, split, Artefact.labels)

    def _files(
        self, what: Makes, name: str, split: str | None, read: Callable[[Artefact, Dataset, Sample], T]
    ) -> StageFiles[T]:
        (stage,) = self.making(what, [name])
        artefact = self.artefact(name)
        dataset = self._on_ground_of(stage, self.split(split)) if split else self.dataset(stage)
        return StageFiles(self, stage, artefact, dataset, read)

    @cached_property
    def metrics(self) -> tuple[MetricRow, ...]:
        """Every number that the finished stages have measured."""
        names = [s.name for s in self.plan.stages if isinstance(s.kind, MetricStage) and self.is_finished(s.name)]
        needed = dict.fromkeys(n for name in names for n in (measured_by(self.stages[name]), name))
        return tuple(collect_metrics([self.done(name) for name in needed]))


def _moved(recipe: Recipe, root: Path) -> Recipe:
    return recipe.model_copy(update={"data": {**recipe.data, "root": str(root.expanduser().absolute())}})


def open_run(path: str | Path, root: str | Path | None = None) -> OpenedRun:
    """Open a run that was made before, whole or in part, to look at what it holds. Nothing is rerun.

    What it returns has ``plan`` (the checked recipe), ``stages`` by name, ``metrics`` (every number that was measured),
    ``artefact(name)``, ``dataset(stage)``, ``maps(stage)`` and ``masks(stage)``; the last two give each sample of the
    stage's split with what was made of it.

    Args:
        path: the run folder, also of a packed run.
        root: folder of the data, where they have moved since (``data.root`` of the recipe otherwise).

    Raises:
        StageError: there is no run.
        ConfigError: its recipe was damaged, or is of another version.

    Example:
        >>> import tag2mask
        >>> run = tag2mask.open_run("runs/photos", root="photos")  # doctest: +SKIP
        >>> for sample, labels in run.masks("amn-lpcam-masks"):  # doctest: +SKIP
        ...     print(sample.id, labels.shape)
    """
    return OpenedRun(path, root)


def as_run(run: OpenedRun | str | Path) -> OpenedRun:
    """A run that is opened already, or the one in a folder."""
    return run if isinstance(run, OpenedRun) else OpenedRun(run)
