"""Exports masks of a run or a folder into the format of another tool, and a network into ONNX."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.palette import own_bound
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.data.image_names import check_ids
from tag2mask.data.images import upright_size
from tag2mask.data.mask_files import align_labels
from tag2mask.data.split_views import MARK, resized_labels
from tag2mask.export.folder import check_labels, masks_of_folder, shared_folder
from tag2mask.export.formats import ExportFormat, Job, Masked, Masks, Outline, writer
from tag2mask.export.output import Counts, atomic_folder, check_names, check_target, labelled
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedMasks, OpenedRun, as_run
from tag2mask.pipeline.run_folder import RECIPE


def export_masks(
    source: Path,
    format: str,
    out: Path,
    *,
    stage: str | None = None,
    classes: Path | None = None,
    images: Path | None = None,
    name: str | None = None,
    min_area: int = 0,
    outline: Outline = "polygons",
    copy_images: bool | None = None,
    root: Path | None = None,
) -> Counts:
    """Write label images in the format of another tool.

    Args:
        source: a run folder, or a folder of palette PNGs with ``classes.txt``.
        format: ``coco``, ``labelme``, ``cvat``, ``palette``, ``yolo`` or a registered one.
        out: new or empty folder.
        stage: of a run, one that made masks; None means the last one of the recipe.
        classes: for a folder: text file of the class names, where ``classes.txt`` is not there.
        images: for a folder: folder of the photos.
        name: of lists and files; None means the split's, and ``train`` for a folder.
        min_area: connected components of fewer pixels become background.
        outline: for a format that has both, polygons or run lengths.
        copy_images: whether photos are copied into the export; None as the format's layout wants it.
        root: of a run whose data have moved, their folder.

    Raises:
        ConfigError: an unknown format or stage, or choices that do not fit together.
        DataError: masks, class names or photos that are missing or do not fit together.
        StageError: masks of a run that are missing or outdated, or a folder that cannot be written or is not free.
    """
    about = writer(format).ABOUT
    _check_choices(format, about, outline, min_area)
    check_target(out)
    masks = _masks(source, root, stage, classes, images, name)
    masks = masks if about.spaces else _without_spaces(masks)
    check_ids([masks.name])
    copied, counts = _copied(masks, format, about, copy_images), Counts()
    check_names(masks, copied)
    holes = about.polygons and outline == "polygons"
    with atomic_folder(out) as folder, progress(format, len(masks.images)) as counter:
        photos = folder / about.photos.format(name=masks.name) if copied else None
        found = labelled(masks, counts, counter, min_area=min_area, holes=holes, photos=photos)
        writer(format).write(Job(folder, out, masks.name, masks.classes, found, outline, copied))
    _log_notes(format, masks, counts, min_area, copied)
    return counts


def masks_of_run(run: OpenedRun | Path, stage: str | None = None, name: str | None = None) -> Masks:
    """The label images that a stage of a run has made.

    Args:
        run: the run, or its folder.
        stage: one that makes masks; None means the last one of the recipe.
        name: of the whole; None means the split's.

    Raises:
        StageError: no run, or the stage is not finished.
        ConfigError: an unknown stage, one that makes no masks, or a recipe without any that does.
        DataError: the data are not there.
    """
    run = as_run(run)
    masks = run.masks(run.making(Makes.MASKS, [] if stage is None else [stage])[-1].name)
    dataset = masks.dataset
    split = run.split_of(masks.stage)
    LOG.info("masks of stage '%s', split '%s'", masks.name, split)
    images = tuple(
        Masked(
            sample.id,
            sample.image,
            partial(_labels, masks, sample),
            partial(dataset.image, sample) if sample.image is None else None,
        )
        for sample in dataset.samples
    )
    photos = shared_folder(sample.image for sample in dataset.samples if sample.image is not None)
    return Masks(name or split.partition(MARK)[0], dataset.classes, images, photos)


def _check_choices(format: str, about: ExportFormat, outline: str, min_area: int) -> None:
    if outline not in ("polygons", "rle"):
        raise ConfigError(unknown("outline", outline, ("polygons", "rle")))
    if outline == "rle" and not about.run_lengths:
        raise ConfigError(f"--outline rle: format '{format}' has no run lengths; leave it out, or take --format coco")
    if min_area < 0:
        raise ConfigError(f"--min-area {min_area}: expected a number of pixels, 0 or more")


def _masks(
    source: Path, root: Path | None, stage: str | None, classes: Path | None, images: Path | None, name: str | None
) -> Masks:
    is_run = (source / RECIPE).is_file()
    for option, value in (("--stage", stage), ("--root", root)):
        if value is not None and not is_run:
            raise ConfigError(f"{option} {value} belongs to a run, but {source} is not one (it has no {RECIPE})")
    for option, value in (("--classes", classes), ("--images", images)):
        if value is not None and is_run:
            raise ConfigError(f"{option} {value} belongs to a folder of masks; {source} is a run and knows its own")
    if is_run:
        return masks_of_run(OpenedRun(source, root), stage, name)
    return masks_of_folder(source, classes, images, name or "train")


@own_bound()  # as in `masks_of_folder`
def _labels(masks: OpenedMasks, sample: Sample) -> Labels:
    what, dataset = f"the mask of '{sample.id}' in stage '{masks.name}'", masks.dataset
    stored = masks.artefact.labels if sample.image is None else masks.artefact.stored_labels
    labels = check_labels(stored(dataset, sample), len(dataset.classes), what)
    if sample.image is None:
        return labels
    if dataset.working_size(sample) is not None:
        labels = resized_labels(labels, *upright_size(sample.image))
    return align_labels(labels, sample.image, what)


def _without_spaces(masks: Masks) -> Masks:
    """The same with ``_`` for white space in names, which must still be distinct."""
    images = tuple(replace(image, id=re.sub(r"\s", "_", image.id)) for image in masks.images)
    renamed = sum(a.id != b.id for a, b in zip(images, masks.images, strict=True))
    if renamed:
        LOG.info("%d names have white space, for which '_' stands: the format's lists separate words by it", renamed)
    check_ids(image.id for image in images)
    return replace(masks, name=re.sub(r"\s", "_", masks.name), images=images)


def _copied(masks: Masks, format: str, about: ExportFormat, wanted: bool | None) -> bool:
    """Whether photos are copied; says so where they should be, and are not known."""
    if masks.photos is not None or any(image.draw for image in masks.images):
        return about.copies if wanted is None else wanted
    if wanted:
        raise ConfigError("--copy-images: the photos of these masks are not known; name their folder with --images DIR")
    if about.copies and wanted is None:
        inner = about.photos.format(name=masks.name)
        LOG.warning("%s: the photos are not known, so there is no %s/; name their folder with --images", format, inner)
    return False


def _log_notes(format: str, masks: Masks, counts: Counts, min_area: int, copied: bool) -> None:
    """What was done that one cannot see."""
    if min_area:
        LOG.info("%s: %d instances of fewer than %d pixels became background", format, counts.dropped, min_area)
    if counts.with_holes:
        LOG.info(
            "%s: %d of %d instances have holes, which polygons do not have: each hole is joined to the outline by a "
            "cut that encloses nothing",
            format, counts.with_holes, counts.instances,
        )  # fmt: skip
    if not copied and masks.photos is not None:
        LOG.info("%s: photos are not copied; they lie in %s", format, masks.photos)
    elif not copied:
        LOG.info("%s: entries are named after the masks, NAME.png", format)
