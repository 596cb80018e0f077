"""Rules of raw scores in the pipeline: a threshold for each class, with its interval and the reason for it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DamagedError, DataError
from tag2mask.core.files import read_json, write_json
from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.evidence import ABSENT_BINS
from tag2mask.evaluation.threshold_rules.score_evidence import ImageScores, cells, gather, slopes, tag_table
from tag2mask.evaluation.threshold_rules.score_rules import COMPARING, ClassChoice, ScoreOptions, choose_classes
from tag2mask.methods.artefact import Artefact, Ruled
from tag2mask.methods.context import StageContext
from tag2mask.methods.stage_kinds import FeatureMapStage
from tag2mask.thresholds.kinds import ErasureSettings, RuleSettings
from tag2mask.thresholds.threshold_of import threshold_of

CLASSES = "classes.json"
"""Beside the threshold: what was said of each class, as `ClassChoice`."""
_LISTED = 12
"""Classes whose thresholds are logged; the file and the report have all."""
_THREADS = 2


def choose_by_scores(context: StageContext[RuleSettings]) -> None:
    """Write the thresholds that a rule finds for each class in raw scores, and why; no ground truth is read.

    Raises:
        DataError: no class has a threshold.
        StageError: maps of an image are missing, or keep no raw scores.
    """
    settings, dataset, maps = context.settings, context.dataset, context.reads["maps"]
    with progress(context.name, len(dataset.samples)) as counter:
        found = class_choices(maps, dataset, dataset.samples, settings, counter.advance, context.seed)
    # Where the best class of a pixel wins, no threshold decides anything: the spread of the scores is all that is read.
    if isinstance(settings, ErasureSettings) and threshold_of(context).background.competes:
        from tag2mask.thresholds.erased import erased_choices

        with progress(f"{context.name}, erased", len(found)) as counter:
            found = erased_choices(
                maps, context.reads["classifier"], dataset, settings, context.engine, found.__getitem__,
                counter.advance, context.seed,
            )  # fmt: skip
    write_choices(context, settings.rule, found, len(dataset))


def write_choices(context: StageContext[Any], rule: str, found: Sequence[ClassChoice], n_images: int) -> None:
    """Log and write the threshold of each class; one without a threshold of its own has the median of the others'.

    Args:
        context: of the stage, which reads ``maps``.
        rule: its name.
        found: for each class, in their order.
        n_images: that were looked at.

    Raises:
        DataError: no class has one.
    """
    named = list(zip(context.dataset.classes, found, strict=True))
    for name, choice in named[:_LISTED]:
        LOG.info("%s: %s", context.name, in_words(name, choice))
    if len(named) > _LISTED:
        LOG.info("%s: and %d more classes, in %s", context.name, len(named) - _LISTED, context.out / CLASSES)
    values = [choice.value for choice in found if choice.value is not None]
    if not values:
        reasons = "; ".join(dict.fromkeys(choice.why for choice in found))
        raise DataError(
            f"{context.name}: rule '{rule}' finds no threshold for any class in the maps of "
            f"'{context.reads['maps'].name}' on {n_images} images: {reasons}. Set a fixed threshold instead, or look "
            "at the maps"
        )
    classes = tuple((name, choice.value) for name, choice in named)
    measured = any(choice.spread is not None for choice in found)
    spreads = tuple((name, choice.spread) for name, choice in named) if measured else ()
    whole = round(statistics.median(values), 4)
    Ruled(whole, rule, "class", n_images, classes, spreads=spreads).write(context.out)
    write_json(context.out / CLASSES, {name: asdict(choice) for name, choice in named})


def class_choices(
    maps: Artefact,
    dataset: Dataset,
    samples: Sequence[Sample],
    settings: RuleSettings,
    advance: Callable[[], None],
    seed: int = 0,
) -> list[ClassChoice]:
    """What a rule of raw scores says of every class of a data set; ``advance`` is called after each sample."""
    read = prefetch_known(
        lambda s: image_scores(maps.maps(dataset, s, "raw"), len(dataset.classes)), samples, _THREADS, advance
    )
    probabilities = isinstance(maps.kind, FeatureMapStage) and maps.kind.probabilities
    table = tag_table([s.tags for s in samples], len(dataset.classes))
    draws = gather(read, table, settings.share, probabilities=probabilities, seed=seed)
    rule = settings.fallback if settings.erases else settings.rule
    return choose_classes(draws, rule, settings.fallback, ScoreOptions(quantile=settings.quantile))


def image_scores(found: ActivationMaps, n_classes: int) -> ImageScores:
    """What an image says, of its maps with raw scores in their place; absent classes may be left out."""
    none = np.zeros((n_classes, ABSENT_BINS), np.int64)
    absent = none if found.absent is None or not len(found.absent) else found.absent.numpy()
    maps = found.maps.float().numpy()
    return ImageScores(found.classes, cells(maps), slopes(maps), absent)


def in_words(name: str, choice: ClassChoice) -> str:
    """A class's threshold with its interval, its rule and the reason."""
    if choice.value is None:
        return f"'{name}' has no threshold of its own ({choice.why})"
    around = "" if choice.low is None else f" ({choice.low:g} to {choice.high:g} over draws of images)"
    return f"'{name}' at {choice.value:g}{around}, by {choice.rule}: {choice.why}"


def read_choices(folder: Path) -> dict[str, ClassChoice]:
    """What was said of each class, by its name; empty where the rule was none of raw scores.

    Raises:
        DamagedError: the file is not what was written.
    """
    path = folder / CLASSES
    if not path.is_file():
        return {}
    try:
        return {name: ClassChoice(**values) for name, values in read_json(path).items()}
    except (TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is not what was written ({error}); remove {folder} and run again") from error


def check_data(settings: RuleSettings, dataset: Dataset) -> Sequence[str]:
    """What a rule of raw scores cannot tell from these tags: a line for each such thing.

    Raises:
        DataError: no image has a tag.
    """
    if not settings.by_scores:
        return ()
    table = tag_table([s.tags for s in dataset.samples], len(dataset.classes))
    if not table.any():
        raise DataError(f"no image of split '{dataset.split}' has a tag, so there is no class to find a threshold for")
    counts, found = table.sum(axis=0), []
    if settings.rule in COMPARING and (everywhere := _named(dataset, counts == len(table))):
        found.append(
            f"every image of split '{dataset.split}' has {everywhere}: rule '{settings.rule}' has nothing to compare "
            f"with, and '{settings.fallback}' takes its place.  Add images without it (an empty cell of tags)"
        )
    if once := _named(dataset, counts == 1):
        found.append(
            f"one image alone of split '{dataset.split}' has {once}: its threshold fits that image, if any.  Add "
            f"images of it, or set per=data and rule=otsu"
        )
    return found


def _named(dataset: Dataset, which: NDArray[np.bool_]) -> str:
    return ", ".join(f"'{name}'" for name, one in zip(dataset.classes, which, strict=True) if one)
