"""Shared by the analyses: the maps they read, the images that these have in common, and the files they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tag2mask.core.errors import ConfigError, command
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import Sample
from tag2mask.evaluation.result_tables import Origin, ResultRow, write_cells, write_results
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.pipeline.opened_run import OpenedMaps, OpenedRun, as_run

FOLDER = "analysis"
"""Folder of a run that the files are written to, unless another is named."""

Run = OpenedRun | str | Path
"""A run, or its folder."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analysis has found and written.

    Attributes:
        numbers: name and numbers of each stage.
        files: in the order to look at them.
        metrics: the numbers to show first, by name.
    """

    numbers: tuple[tuple[str, tuple[ResultRow, ...]], ...]
    files: tuple[Path, ...]
    metrics: tuple[str, ...] = ()


class Findings:
    """Gathers the numbers of an analysis stage by stage, and writes them: CSV, a line for each image, figure.

    Args:
        verb: of ``tag2mask analyse``; the files are named after it.
        opened: the maps that are analysed.
        out: folder for the files; None means ``analysis`` in the folder of the first run.
        split: as given by the user.
        options: further words of the command that repeats the analysis.

    Attributes:
        n_without_truth: images of the split without ground truth, which are left out.
    """

    def __init__(
        self,
        verb: str,
        opened: Sequence[OpenedMaps],
        out: Path | None,
        split: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._verb, self._opened = verb, opened
        self.out = out or opened[0].run.path / FOLDER
        self._options = [*options, *(["--split", split] if split else [])]
        self._numbers: list[tuple[str, tuple[ResultRow, ...]]] = []
        self._lines: list[Sequence[Any]] = []
        self.n_without_truth = 0

    def each(self, what: str = "") -> Iterator[tuple[OpenedMaps, list[Sample], Callable[[], None]]]:
        """Maps, the samples to measure them on, and what counts these; errors as for `shared`."""
        for maps, samples in zip(self._opened, shared(self._opened), strict=True):
            with progress(f"{maps.name}{what}", len(samples)) as counter:
                yield maps, samples, counter.advance

    def name(self, maps: OpenedMaps) -> str:
        """How a stage is named: with its run where there are several."""
        several = any(other.run is not maps.run for other in self._opened)
        return f"{maps.run.path}/{maps.name}" if several else maps.name

    def origin(self, maps: OpenedMaps, *options: str) -> Origin:
        """What the lines of one stage have in common, with the command that repeats its analysis."""
        words = (*maps.run.words, "--stage", maps.name, *options, *self._options)
        return Origin(maps.method, maps.stage.seed, command("analyse", self._verb, *words))

    def add(self, maps: OpenedMaps, rows: Sequence[ResultRow], lines: Sequence[Sequence[Any]] = ()) -> None:
        """Take the numbers of one stage, and its lines of the second table."""
        self._numbers.append((self.name(maps), tuple(rows)))
        self._lines += lines

    @property
    def where(self) -> str:
        """Split, image count and seeds in words, for titles."""
        first = self._numbers[0][1][0]
        seeds = sorted({row.seed for _, rows in self._numbers for row in rows})
        return f"{first.split}, {first.n_images} images, seed {', '.join(map(str, seeds))}"

    def file(self, ending: str) -> Path:
        """A file of the analysis: its name and this ending."""
        return self.out / f"{self._verb}{ending}"

    def write(
        self,
        draw: Callable[[Path], object],
        *,
        metrics: Sequence[str],
        columns: Sequence[str] = (),
        suffix: str = "-images",
        figure: str = ".svg",
    ) -> Analysis:
        """Write the tables, then the figure.

        Args:
            draw: writes the figure.
            metrics: as in `Analysis`.
            columns: of the second table; none means that there is no such table.
            suffix: of the second table.
            figure: ending of the figure.
        """
        if self.n_without_truth:
            split = self._numbers[0][1][0].split
            LOG.warning("%d images of split '%s' have no ground truth and are left out", self.n_without_truth, split)
        files = [self.file(".csv")]
        write_results(files[0], [row for _, rows in self._numbers for row in rows])
        if columns:
            files.append(self.file(f"{suffix}.csv"))
            write_cells(files[1], columns, self._lines)
        files.append(self.file(figure))
        draw(files[-1])
        return Analysis(tuple(self._numbers), tuple(files), tuple(metrics))


def shared(opened: Sequence[OpenedMaps]) -> list[list[Sample]]:
    """The samples to measure maps on: the same for all maps, without those behind a threshold of any of them."""
    artefacts = [maps.artefact for maps in opened]
    chosen = [unseen(artefacts, maps.dataset, maps.name) for maps in opened]
    first = opened[0]
    for maps, samples in zip(opened, chosen, strict=True):
        if maps.dataset.classes != first.dataset.classes or [s.id for s in samples] != [s.id for s in chosen[0]]:
            raise ConfigError(
                f"{first.run.path} and {maps.run.path} cannot be compared: split '{first.dataset.split}' has "
                f"{len(chosen[0])} images of {len(first.dataset.classes)} classes in one, split "
                f"'{maps.dataset.split}' has {len(samples)} of {len(maps.dataset.classes)} in the other, and they are "
                "not the same. Name runs on the same data, or one run alone"
            )
    return chosen


def open_maps(run: Run, stages: Sequence[str] = (), split: str | None = None) -> list[OpenedMaps]:
    """The named maps of a run, all of them where none is named; errors as for `OpenedRun.maps`."""
    opened = as_run(run)
    return [opened.maps(stage.name, split) for stage in opened.making(Makes.MAPS, stages)]


def open_several(runs: Sequence[Run], stages: Sequence[str], split: str | None) -> list[OpenedMaps]:
    """The named maps of each run: a name has to be known to one of the runs, and each run has to have one of them."""
    known = [(run, [s.name for s in run.stages.values() if s.kind.makes is Makes.MAPS]) for run in map(as_run, runs)]
    somewhere = {name for _, names in known for name in names}
    opened: list[OpenedMaps] = []
    for run, names in known:
        mine = [name for name in stages if name in names or name not in somewhere]
        if stages and not mine:
            raise ConfigError(
                f"{run.path} has none of the stages {', '.join(stages)}; it makes the maps {', '.join(names)}. Leave "
                "the run out, or name one of these too"
            )
        opened += open_maps(run, mine, split)
    return opened
