"""AMN under right and wrong tags on a finished run (AMN, Figure 4): numbers, a line an image, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tag2mask.analysis.map_thresholds import FOLDER, Analysis, command_of
from tag2mask.core.errors import ConfigError
from tag2mask.core.progress import progress
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.evaluation.absent_classes import AbsentAnalysis, AbsentLine, analyse_absent
from tag2mask.evaluation.result_tables import write_results, write_table
from tag2mask.pipeline.evaluate_run import OpenedMaps, maps_stages, open_maps
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.report.figures import draw_examples
from tag2mask.report.page import Example, Picture
from tag2mask.report.pictures import fit, heat_overlay

ABSENT = "absent-classes"
KIND = "amn-maps"
_SIDE, _SHOWN = 320, 4

_Told = Callable[[Sample, Sequence[int]], NDArray[np.float32]]


def analyse_tags(
    run: Path, *, stages: Sequence[str] = (), images: int = 100, split: str | None = None, out: Path | None = None
) -> Analysis:
    """Measure how active absent classes are, with the right tags and with a wrong one.

    Needs no truth. The pictures are of the images whose wrong class is most active in the first of the stages.

    Args:
        run: the run folder.
        stages: instances of kind ``amn-maps``; every one of the run where empty.
        images: how many, evenly spaced over the split.
        split: the split; the one whose maps were made where None.
        out: folder for the files; ``analysis`` in the run folder where None.

    Raises:
        StageError: no run, a stage that is not finished, or files that cannot be written.
        ConfigError: an unknown stage, one of another kind, or a run without any.
        DataError: no image has some classes and lacks others, or an image cannot be read.
    """
    from tag2mask.methods.amn.stage import told

    out, engine = out or run / FOLDER, RunFolder.existing(run).recipe().engine
    opened = open_maps(run, _named(run, stages), split)
    dataset = opened[0].dataset
    spaced = np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int)
    samples = [dataset.samples[i] for i in spaced]
    found: list[tuple[OpenedMaps, _Told, AbsentAnalysis]] = []
    for maps in opened:
        ask = told(maps.artefact, dataset, engine)
        with progress(maps.name, len(samples)) as counter:
            found.append((maps, ask, analyse_absent(dataset, ask, samples, counter.advance)))
    extra = [*(["--images", str(images)] if images != 100 else []), *(["--split", split] if split else [])]
    numbers = [
        (m.name, one.results(method=m.method, seed=m.stage.seed, command=command_of(ABSENT, m, extra)))
        for m, _, one in found
    ]
    files = (out / f"{ABSENT}.csv", out / f"{ABSENT}-images.csv", out / f"{ABSENT}.png")
    write_results(files[0], [row for _, rows in numbers for row in rows])
    lines = [line for m, _, one in found for line in one.lines(dataset.classes, stage=m.name, seed=m.stage.seed)]
    write_table(files[1], AbsentLine, lines)
    _draw(found, files[2])
    return Analysis(tuple(numbers), files)


def _named(run: Path, stages: Sequence[str]) -> list[str]:
    """The stages of AMN's maps to look at; names that are not of any maps are left to `open_maps` to refuse."""
    plan = make_plan(RunFolder.existing(run).recipe())
    kinds = {s.name: s.kind.name for s in plan.stages}
    ours = [name for name in maps_stages(run) if kinds[name] == KIND]
    for name in stages:
        if name in maps_stages(run) and name not in ours:
            raise ConfigError(
                f"stage '{name}' is of kind {kinds[name]}, which is told no tags; expected one of kind {KIND}"
                + (f": {', '.join(ours)}" if ours else "")
            )
    if not (stages or ours):
        raise ConfigError(
            f"the recipe of {run} has no stage of kind {KIND}; use one that has: tag2mask run own-data-amn"
        )
    return list(stages) or ours


def _draw(found: Sequence[tuple[OpenedMaps, _Told, AbsentAnalysis]], path: Path) -> None:
    first, _, analysis = found[0]
    dataset = first.dataset
    samples = {sample.id: sample for sample in dataset.samples}
    chosen = sorted(analysis.images, key=lambda i: (-i.absent_highest, i.id))[:_SHOWN]
    examples = []
    for image in chosen:
        sample = samples[image.id]
        photo, right = dataset.image(sample), list(sample.tags)
        names, wrong = ", ".join(dataset.classes[c] for c in right), dataset.classes[image.wrong]
        pictures = [Picture(names, names, fit(photo, _SIDE))]
        for maps, ask, _ in found:
            for tags, tagged in ((right, names), ([image.wrong], wrong)):
                softmax = torch.from_numpy(ask(sample, tags))
                shown = bilinear(softmax, photo.height, photo.width).numpy()[1:]
                for columns, of in ((right, names), ([image.wrong], wrong)):
                    caption = f"{maps.name} told {tagged}:\n{of}"
                    heat = heat_overlay(photo, shown[columns].max(axis=0))
                    pictures.append(Picture(caption, caption, fit(heat, _SIDE)))
        reason = f"{wrong} is absent, mean activation {image.absent_highest:.2f} in {first.name}"
        examples.append(Example(image.id, reason, tuple(pictures)))
    title = f"Softmax of present and absent classes under right and wrong tags, {dataset.split}"
    draw_examples(examples, title, path)
