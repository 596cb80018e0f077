"""The prototypes of a run: their gallery, on a page and as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tag2mask.analysis.base import Run
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import read_json
from tag2mask.data.base import Dataset
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedRun, as_run
from tag2mask.pipeline.plan import PlannedStage

if TYPE_CHECKING:
    from PIL import Image

    from tag2mask.report.gallery import GalleryClass

PAGE = "prototypes.html"
_PATCH = 0.3
"""Side of a gallery patch as a share of the image's longer side: wide enough to see what a cell lies on."""


_OPEN = 128
"""Images kept in memory while patches are cut."""


@dataclass(frozen=True, slots=True)
class PrototypePage:
    """What `show_prototypes` found.

    Attributes:
        lines: class name -> (prototype, score, size, why) of each centre.
        page: the gallery.
    """

    lines: Mapping[str, Sequence[Sequence[str]]]
    page: Path


def show_prototypes(run: Run, stage: str | None = None) -> PrototypePage:
    """Write the gallery of a run's prototypes and return them as lines.

    Args:
        run: the run, or its folder.
        stage: name of the prototypes stage; needed where the run has several.

    Raises:
        StageError: no run, or its prototypes are not made yet.
        ConfigError: as for `stage_of_prototypes`.
    """
    from tag2mask.report.gallery import render_gallery

    run = as_run(run)
    classes = gallery_classes(run, stage_of_prototypes(run, stage))
    page = run.path / PAGE
    render_gallery(classes, f"Prototypes of {run.path.name}", page, str(run.path))
    lines = {c.name: [[p.name, f"{p.score:.3f}", str(p.size), p.reason] for p in c.prototypes] for c in classes}
    return PrototypePage(lines, page)


def gallery_classes(
    run: OpenedRun, planned: PlannedStage, *, kept_only: bool = False, patches: int | None = None
) -> tuple[GalleryClass, ...]:
    """What the prototypes of one stage look like.

    Args:
        run: the run.
        planned: the stage that made them.
        kept_only: leave out those that serve as no prototype.
        patches: at most so many for each prototype; None means all.
    """
    from tag2mask.methods.lpcam.kinds import dropped
    from tag2mask.methods.lpcam.prototypes_file import load_prototypes
    from tag2mask.methods.lpcam.stage import GALLERY, PROTOTYPES
    from tag2mask.report.gallery import GalleryClass, GalleryPrototype

    artefact, dataset = run.artefact(planned.name), run.dataset(planned)
    found = load_prototypes(artefact.path / PROTOTYPES)
    places = {(e["class"], e["name"]): e["patches"] for e in read_json(artefact.path / GALLERY)}
    by_hand = {text for s in readers_of(run, planned) for text in dropped(s.settings)}
    cutter = _Cutter(dataset)
    classes = []
    for column in sorted(found.all_foreground):
        shown, name = [], dataset.classes[column]
        for side, sets in (("foreground", found.all_foreground), ("context", found.all_context)):
            centres = sets[column]
            for number, reason in enumerate(centres.reasons):
                label = f"{side}:{number}"
                left_out = f"{name} {label}" in by_hand
                kept = bool(centres.kept[number]) and not left_out
                if kept_only and not kept:
                    continue
                score, size = float(centres.scores[number]), int(centres.sizes[number])
                images = tuple(cutter.patch(p) for p in places.get((name, label), ())[:patches])
                why = "dropped by hand" if left_out else reason
                shown.append(GalleryPrototype(label, score, size, kept, why, images))
        classes.append(GalleryClass(name, tuple(shown)))
    return tuple(classes)


def stage_of_prototypes(run: OpenedRun, name: str | None) -> PlannedStage:
    """The stage that makes a run's prototypes."""
    having = run.making(Makes.PROTOTYPES, [] if name is None else [name])
    if len(having) > 1:
        names = ", ".join(stage.name for stage in having)
        raise ConfigError(f"{run.path} has several stages of prototypes; add --stage with one of {names}")
    return having[0]


def readers_of(run: OpenedRun, planned: PlannedStage) -> list[PlannedStage]:
    """The stages that make maps from what a stage of prototypes makes."""
    return [s for s in run.stages.values() if planned.name in s.reads.values() and s.kind.makes is Makes.MAPS]


class _Cutter:
    """Cuts patches out of images around feature cells; keeps the images used last open."""

    def __init__(self, dataset: Dataset) -> None:
        samples = {s.id: s for s in dataset.samples}
        self._image = lru_cache(_OPEN)(lambda sample_id: dataset.image(samples[sample_id]))

    def patch(self, place: Mapping[str, Any]) -> Image.Image:
        """The square around the place ``u``, ``v`` (shares of width and height) of image ``id``."""
        image = self._image(place["id"])
        side = max(16, round(max(image.size) * _PATCH))
        left = round(place["u"] * image.width - side / 2)
        top = round(place["v"] * image.height - side / 2)
        left = min(max(left, 0), max(image.width - side, 0))
        top = min(max(top, 0), max(image.height - side, 0))
        return image.crop((left, top, min(left + side, image.width), min(top + side, image.height)))
