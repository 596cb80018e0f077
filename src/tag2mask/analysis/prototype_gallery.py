"""The prototypes of a run: their gallery, on a page and as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tag2mask.core.errors import ConfigError, StageError, unknown
from tag2mask.core.files import read_json
from tag2mask.data.base import Dataset
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.evaluate_run import finished, open_split, own_split
from tag2mask.pipeline.keys import keys_of
from tag2mask.pipeline.plan import Plan, PlannedStage, make_plan
from tag2mask.pipeline.run_folder import RunFolder

if TYPE_CHECKING:
    from PIL import Image

    from tag2mask.report.gallery import GalleryClass

PAGE = "prototypes.html"
_PATCH = 0.3
"""Side of a gallery patch as a share of the image's longer side: wide enough to see what a cell lies on."""


_OPEN = 128
"""Images kept in memory while patches are cut."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What `show_prototypes` found.

    Attributes:
        lines: class name -> (prototype, score, size, why) of each centre.
        page: the gallery.
    """

    lines: Mapping[str, Sequence[Sequence[str]]]
    page: Path


def show_prototypes(run: Path, stage: str | None = None) -> Shown:
    """Write the gallery of a run's prototypes and return them as lines.

    Args:
        run: the run folder.
        stage: name of the prototypes stage; needed where the run has several.

    Raises:
        StageError: no run, or its prototypes are not made yet.
    """
    from tag2mask.report.gallery import render_gallery

    folder = RunFolder.existing(run)
    plan = make_plan(folder.recipe())
    planned = stage_of_prototypes(plan, stage, run)
    artefact = finished(folder, plan, planned, keys_of(folder.store.root))
    classes = gallery_classes(plan, planned, artefact)
    page = folder.path / PAGE
    render_gallery(classes, f"Prototypes of {folder.path.name}", page, str(run))
    lines = {c.name: [[p.name, f"{p.score:.3f}", str(p.size), p.reason] for p in c.prototypes] for c in classes}
    return Shown(lines, page)


def gallery_classes(
    plan: Plan, planned: PlannedStage, artefact: Artefact, *, kept_only: bool = False, patches: int | None = None
) -> tuple[GalleryClass, ...]:
    """What the prototypes of one stage look like.

    Args:
        plan: of the run.
        planned: the stage that made them.
        artefact: what it made.
        kept_only: leave out those that serve as no prototype.
        patches: at most so many for each prototype; all of them where None.
    """
    from tag2mask.methods.lpcam.stage import GALLERY, PROTOTYPES
    from tag2mask.methods.lpcam.store import load_prototypes
    from tag2mask.report.gallery import GalleryClass, GalleryPrototype

    dataset = open_split(plan, own_split(plan, planned))
    found = load_prototypes(artefact.path / PROTOTYPES)
    places = {(e["class"], e["name"]): e["patches"] for e in read_json(artefact.path / GALLERY)}
    dropped = {text for s in readers_of(plan, planned) for text in getattr(s.settings, "drop", ())}
    cutter = _Cutter(dataset)
    classes = []
    for column in sorted(found.all_foreground):
        shown, name = [], dataset.classes[column]
        for side, sets in (("foreground", found.all_foreground), ("context", found.all_context)):
            centres = sets[column]
            for number, reason in enumerate(centres.reasons):
                label = f"{side}:{number}"
                by_hand = f"{name} {label}" in dropped
                kept = bool(centres.kept[number]) and not by_hand
                if kept_only and not kept:
                    continue
                score, size = float(centres.scores[number]), int(centres.sizes[number])
                images = tuple(cutter.patch(p) for p in places.get((name, label), ())[:patches])
                why = "dropped by hand" if by_hand else reason
                shown.append(GalleryPrototype(label, score, size, kept, why, images))
        classes.append(GalleryClass(name, tuple(shown)))
    return tuple(classes)


def stage_of_prototypes(plan: Plan, name: str | None, run: Path) -> PlannedStage:
    """The stage that makes a run's prototypes.

    Args:
        plan: of the run.
        name: of the stage; needed where there are several.
        run: the run folder, for messages.

    Raises:
        ConfigError: there are several and none is named, or none is called that.
        StageError: the run makes none.
    """
    having = {s.name: s for s in plan.stages if s.kind.makes is Makes.PROTOTYPES}
    if not having:
        raise StageError(f"the recipe of {run} has no stage that makes prototypes; use one of lpcam: tag2mask ls")
    if name is None and len(having) > 1:
        raise ConfigError(f"{run} has several stages of prototypes; add --stage with one of {', '.join(having)}")
    if name is not None and name not in having:
        raise ConfigError(unknown("stage of prototypes", name, having))
    return having[name] if name is not None else next(iter(having.values()))


def readers_of(plan: Plan, planned: PlannedStage) -> list[PlannedStage]:
    """The stages that make maps from what a stage of prototypes makes."""
    return [s for s in plan.stages if planned.name in s.reads.values() and s.kind.makes is Makes.MAPS]


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
