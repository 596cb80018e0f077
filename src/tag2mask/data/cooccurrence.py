"""Counts which classes come together, from the tags alone: pairs, their lift and correlation.

A classifier that learns from tags cannot distinguish class ``a`` from ``b`` where every image of ``a`` shows ``b`` too:
any pixel that predicts one predicts the other. With n images, n_a of them tagged a and n_ab tagged both:
``p(b | a) = n_ab / n_a``, ``lift = n n_ab / (n_a n_b)`` (1 where the two are independent), and
``phi = (n n_ab - n_a n_b) / sqrt(n_a (n - n_a) n_b (n - n_b))``, the correlation of the two tags, -1..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import ratio, rounded
from tag2mask.core.errors import DataError

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairLine:
    """What one class says about another, as a line of CSV.

    Attributes:
        a: a class.
        b: another one.
        images_a: images tagged a.
        images_both: images tagged a and b.
        p_b_given_a: share of a's images that are tagged b, 0..1.
        lift: how many times more often than chance the two come together.
        phi: correlation of the two tags, -1..1; NaN where one of them is in all images or none.
    """

    a: str
    b: str
    images_a: int
    images_both: int
    p_b_given_a: float
    lift: float
    phi: float


@dataclass(frozen=True, slots=True)
class ClassLine:
    """One class, as a line of CSV.

    Attributes:
        name: of the class.
        images: tagged with it.
        share: of all images, 0..1.
        alone: images with no other tag.
        alone_share: of its own images, 0..1; NaN without any.
        companion: the class most often beside it; empty where it is never beside any.
        companion_share: share of its images that show the companion, 0..1; NaN without any image.
    """

    name: str
    images: int
    share: float
    alone: int
    alone_share: float
    companion: str
    companion_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Cooccurrence:
    """Counts of tags and pairs of tags.

    Attributes:
        classes: C names in the order of the columns.
        n_images: all images, those without tags included.
        counts: (C, C) images with both tags; the diagonal holds the images of each class.
        alone: (C,) images with that tag and no other.
        untagged: images without any tag.
    """

    classes: tuple[str, ...]
    n_images: int
    counts: NDArray[np.int64]
    alone: NDArray[np.int64]
    untagged: int

    @property
    def images(self) -> NDArray[np.int64]:
        """(C,) images of each class."""
        return np.diag(self.counts)

    @property
    def conditional(self) -> Shares:
        """(C, C) p(b | a) at row a, column b; the row of a class without images is NaN."""
        return ratio(self.counts, self.images[:, None])

    @property
    def lift(self) -> Shares:
        """(C, C) symmetric; NaN where one of the two has no images."""
        return ratio(self.n_images * self.counts, np.outer(self.images, self.images))

    @property
    def phi(self) -> Shares:
        """(C, C) symmetric, 1 on the diagonal; NaN where one of the two is in all images or in none."""
        own = self.images.astype(np.float64)
        spread = own * (self.n_images - own)
        return ratio(self.n_images * self.counts - np.outer(own, own), np.sqrt(np.outer(spread, spread)))

    def pair_lines(self) -> tuple[PairLine, ...]:
        """Every ordered pair of classes that come together, the most inseparable first."""
        shares, lift, phi = self.conditional, self.lift, self.phi
        found = [
            PairLine(
                self.classes[a], self.classes[b], int(self.images[a]), int(self.counts[a, b]),
                *(rounded(m[a, b]) for m in (shares, lift, phi)),
            )
            for a in range(len(self.classes)) for b in range(len(self.classes)) if a != b and self.counts[a, b]
        ]  # fmt: skip
        return tuple(sorted(found, key=lambda line: (-line.p_b_given_a, -line.images_a, line.a, line.b)))

    def class_lines(self) -> tuple[ClassLine, ...]:
        """Every class in the order of the columns."""
        return tuple(self._line(column) for column in range(len(self.classes)))

    def _line(self, column: int) -> ClassLine:
        images, beside = int(self.images[column]), self.counts[column].copy()
        beside[column] = 0
        most = int(beside.argmax())
        alone = int(self.alone[column])
        return ClassLine(
            self.classes[column], images, rounded(images / self.n_images), alone, _share(alone, images),
            self.classes[most] if beside[most] else "", _share(int(beside[most]), images),
        )  # fmt: skip


def cooccurrence(tags: Iterable[Sequence[int]], classes: Sequence[str]) -> Cooccurrence:
    """Count tags and pairs of tags, given the 0-based class columns of each image."""
    found = count_tags(tags, classes)
    if not found.n_images:
        raise DataError("there is no image whose tags could be counted; check the split with tag2mask doctor")
    return found


def count_tags(tags: Iterable[Sequence[int]], classes: Sequence[str]) -> Cooccurrence:
    """The same, and zeros where there is no image."""
    images = [tuple(sorted(set(t))) for t in tags]
    wrong = [c for t in images for c in t if not 0 <= c < len(classes)]
    if wrong:
        raise DataError(f"tags hold column {wrong[0]}; expected 0..{len(classes) - 1}, one for each of the classes")
    present = np.zeros((len(images), len(classes)), dtype=np.int64)
    for row, columns in enumerate(images):
        present[row, list(columns)] = 1
    number = present.sum(axis=1)
    return Cooccurrence(
        tuple(classes), len(images), present.T @ present, present[number == 1].sum(axis=0), int((number == 0).sum())
    )


def _share(part: int, whole: int) -> float:
    return rounded(float(ratio(part, whole)))
