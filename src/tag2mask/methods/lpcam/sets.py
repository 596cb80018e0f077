"""Which images and which of their cells are the foreground and the context of a class, before they are clustered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from torch import Tensor

from tag2mask.core.progress import LOG
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import CONSTANT, rule_on
from tag2mask.evaluation.thresholds import ScoreForm, Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.lpcam.kinds import ContextSet, PrototypeSettings

_EITHER = 0.5
"""What parts the cells of maps that are 0 or 1."""


@dataclass(frozen=True, slots=True)
class Sets:
    """Foreground set and context set of the classes.

    Attributes:
        competes: whether some pixels are of no class. Where all are of one, a cell of an image with the class is its
            foreground if its map is the largest there, and ``image`` stands for ``both`` in what follows.
        context: where context is taken: in images with the class, in as many without it, in both.
        cut: foreground where CAM >= cut (eq. 2), if there is no threshold.
        threshold: foreground where CAM exceeds it instead; None without.
        scores: the form of the maps that are cut.
        seed: of the samples of images.
    """

    competes: bool = True
    context: ContextSet = "image"
    cut: float = 0.1
    threshold: Threshold | None = field(default=None, repr=False)
    scores: ScoreForm = "normalised"
    seed: int = 0

    @classmethod
    def of(cls, stage: StageContext[PrototypeSettings]) -> Self:
        """Those of a stage: by its settings, its data, and the threshold that it reads if it reads one."""
        settings, maps, chosen = stage.settings, stage.reads["maps"], stage.reads.get("threshold")
        competes = rule_on(stage.background, CONSTANT).competes
        raw = maps.kind is not None and maps.kind.raw_beside(maps.settings)
        # Raw scores of several classes can be compared; maps that were each divided by their maximum only just.
        scores: ScoreForm = settings.scores if competes else "raw" if raw else "normalised"
        threshold = None if chosen is None else chosen.threshold().as_threshold()
        return cls(competes, settings.context, settings.tau, threshold, scores, stage.seed)

    @property
    def tau(self) -> float:
        """What the values of `share` are cut at: at it or above is foreground."""
        return self.cut if self.competes and self.threshold is None else _EITHER

    @property
    def certain(self) -> bool:
        """Whether only images without the class give context."""
        return self.context == "negatives"

    def images(self, dataset: Dataset, column: int, limit: int | None) -> list[Sample]:
        """A seeded sample of at most ``limit`` images of a class, then as many without it if these give context.

        Both in the data set's order. All that an image without the class holds is context for certain; in an image of
        the class the context is what its map leaves, as far as the map is right. Where every image has the class its
        own are the context, and the log says so.
        """
        having = sample_images(dataset, column, limit, self.seed)
        if not having or (self.competes and self.context == "image"):
            return having
        # An image without a tag shows no class, so where every pixel is of one it tells nothing.
        others = [s for s in dataset.samples if column not in s.tags and (s.tags or self.competes)]
        if not others and self.competes:
            LOG.warning(
                "prototypes: context = %s, but every image has the class '%s': its context is taken in its own images",
                self.context, dataset.classes[column],
            )  # fmt: skip
        picked = np.random.default_rng([self.seed, column, 1]).permutation(len(others))[: len(having)]
        return [*having, *(others[i] for i in sorted(picked))]

    def share(self, maps: Artefact, dataset: Dataset, sample: Sample, column: int) -> Tensor | None:
        """What is cut at `tau` to part the cells of an image, (h, w); None of an image without the class."""
        if column not in sample.tags:
            return None
        found = maps.maps(dataset, sample, scores=self.scores)
        level = None if self.threshold is None else self.threshold.of(sample.id, [column])
        return share_of(found, column, self.competes, None if level is None else float(level))


def share_of(found: ActivationMaps, column: int, competes: bool, level: float | None = None) -> Tensor:
    """What parts the foreground of a class from its context, (h, w), in an image with the class.

    Its map; 1 where that exceeds ``level`` and 0 elsewhere, if there is one; without background, whatever the level, 1
    where it is the largest and 0 elsewhere.
    """
    place = found.classes.index(column)
    if not competes:
        return (found.maps.argmax(0) == place).float()
    return found.maps[place] if level is None else (found.maps[place] > level).float()


def sample_images(dataset: Dataset, column: int, limit: int | None, seed: int) -> list[Sample]:
    """A seeded sample of the images of a class, at most ``limit``, in the data set's order."""
    having = [s for s in dataset.samples if column in s.tags]
    if limit is None or len(having) <= limit:
        return having
    picked = np.random.default_rng([seed, column]).choice(len(having), limit, replace=False)
    return [having[i] for i in sorted(picked)]
