"""Which class hides in which context, from the tags alone: counts of pairs and what they say.

A classifier that learns from tags cannot tell class ``a`` from class ``b`` where every image of ``a`` shows ``b`` too:
any pixel that predicts one predicts the other. With n images, n_a of them tagged a and n_ab tagged both:
``p(b | a) = n_ab / n_a``, ``lift = n n_ab / (n_a n_b)`` (1 where the two are independent), and
``phi = (n n_ab - n_a n_b) / sqrt(n_a (n - n_a) n_b (n - n_b))``, the correlation of the two tags, -1..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.ratios import ratio

NEVER_ALONE = 0.95
"""Share of a class's images that show another one too, from which on the two count as hardly told apart."""

FEW_IMAGES = 20
"""Fewer images of a class teach little, and say little about what comes with it."""

IMBALANCE = 20.0
"""How many times more images the largest class has than the smallest, from which on it is worth a word."""

UNTAGGED_SHARE = 0.2
"""Share of images without a tag from which on it is worth a word."""

_DIGITS = 4

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


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the tags that a user should know.

    Attributes:
        kind: ``untagged``, ``missing`` (a class without images), ``few`` (too few), ``everywhere`` (in all images),
            ``together`` (hardly ever without one other class), ``never-alone`` (hardly ever without any other) or
            ``imbalance``.
        classes: names of the classes it is about.
        text: what was found.
        remedy: what to do.
    """

    kind: str
    classes: tuple[str, ...]
    text: str
    remedy: str


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
                *(round(float(m[a, b]), _DIGITS) for m in (shares, lift, phi)),
            )
            for a in range(len(self.classes)) for b in range(len(self.classes)) if a != b and self.counts[a, b]
        ]  # fmt: skip
        return tuple(sorted(found, key=lambda line: (-line.p_b_given_a, -line.images_a, line.a, line.b)))

    def class_lines(self) -> tuple[ClassLine, ...]:
        """Every class in the order of the columns."""
        return tuple(self._line(column) for column in range(len(self.classes)))

    def remarks(self) -> tuple[Remark, ...]:
        """What may spoil a classifier that learns from these tags, the worst first."""
        always = [c for c in range(len(self.classes)) if self.images[c] == self.n_images]
        together = self._together(always)
        paired = {remark.classes[0] for remark in together}
        return (
            *self._missing(),
            *(_everywhere(self.classes[c], self.n_images) for c in always),
            *together,
            *(remark for remark in ([] if always else self._never_alone()) if remark.classes[0] not in paired),
            *self._few(),
            *self._imbalance(),
            *self._untagged(),
        )

    def _line(self, column: int) -> ClassLine:
        images, beside = int(self.images[column]), self.counts[column].copy()
        beside[column] = 0
        most = int(beside.argmax())
        alone = int(self.alone[column])
        return ClassLine(
            self.classes[column], images, round(images / self.n_images, _DIGITS), alone, _share(alone, images),
            self.classes[most] if beside[most] else "", _share(int(beside[most]), images),
        )  # fmt: skip

    def _missing(self) -> tuple[Remark, ...]:
        names = tuple(name for name, n in zip(self.classes, self.images, strict=True) if not n)
        if not names:
            return ()
        text = f"{len(names)} of {len(self.classes)} classes have no image: {', '.join(names)}"
        return (Remark("missing", names, text, "They cannot be learnt: add images, or list the others in classes"),)

    def _few(self) -> tuple[Remark, ...]:
        few = [(name, int(n)) for name, n in zip(self.classes, self.images, strict=True) if 0 < n < FEW_IMAGES]
        if not few:
            return ()
        text = f"fewer than {FEW_IMAGES} images: " + ", ".join(f"{name} ({n})" for name, n in few)
        return (Remark("few", tuple(name for name, _ in few), text, "Add images of them; their maps will be poor"),)

    def _together(self, always: Sequence[int]) -> tuple[Remark, ...]:
        """Ordered pairs (a, b) where a is (nearly) never seen without b; what is in all images is said elsewhere."""
        found = []
        for a, name in enumerate(self.classes):
            for b, other in enumerate(self.classes):
                both, own = int(self.counts[a, b]), int(self.images[a])
                if a == b or b in always or not own or both < NEVER_ALONE * own:
                    continue
                words = f"all {own}" if both == own else f"{both} of the {own}"
                text = f"'{name}' is {'never' if both == own else 'hardly ever'} seen without '{other}': {words} images"
                remedy = f"Tags alone hardly tell the two apart: add images of '{name}' without '{other}'"
                found.append((both / own, own, Remark("together", (name, other), text, remedy)))
        return tuple(remark for _, _, remark in sorted(found, key=lambda f: (-f[0], -f[1], f[2].classes)))

    def _never_alone(self) -> list[Remark]:
        """Classes that (nearly) always come with some other class, be it now this one and now that."""
        found = []
        for line in self.class_lines():
            if not line.images or line.alone > (1 - NEVER_ALONE) * line.images:
                continue
            words = f"{line.images - line.alone} of its {line.images} images show another class too"
            text = f"'{line.name}' is {'hardly ever' if line.alone else 'never'} seen alone: {words}"
            most = f"most often '{line.companion}' ({line.companion_share:.0%})"
            remedy = f"Its maps may spread over those classes: add images of '{line.name}' alone"
            found.append(Remark("never-alone", (line.name,), f"{text}, {most}", remedy))
        return found

    def _imbalance(self) -> tuple[Remark, ...]:
        seen = [(int(n), name) for name, n in zip(self.classes, self.images, strict=True) if n]
        if not seen or max(seen)[0] < IMBALANCE * min(seen)[0]:
            return ()
        (most, large), (least, small) = max(seen), min(seen)
        text = f"'{large}' has {most} images, '{small}' {least}: {most / least:.0f} times as many"
        return (Remark("imbalance", (large, small), text, f"Add images of '{small}', or leave some of '{large}' out"),)

    def _untagged(self) -> tuple[Remark, ...]:
        if self.untagged < UNTAGGED_SHARE * self.n_images or not self.untagged:
            return ()
        text = f"{self.untagged} of {self.n_images} images have no tag and are learnt as images of nothing"
        return (Remark("untagged", (), text, "Tag them, or take them out where they were only never looked at"),)


def cooccurrence(tags: Iterable[Sequence[int]], classes: Sequence[str]) -> Cooccurrence:
    """Count tags and pairs of tags.

    Args:
        tags: of each image, its 0-based class columns.
        classes: C names.

    Raises:
        DataError: there is no image, or a column is not of a class.
    """
    images = [tuple(sorted(set(t))) for t in tags]
    if not images:
        raise DataError("there is no image whose tags could be counted; check the split with tag2mask doctor")
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


def _everywhere(name: str, n_images: int) -> Remark:
    remedy = "Add images without it (an empty tag cell is a verified negative)"
    return Remark("everywhere", (name,), f"all {n_images} images are tagged '{name}'", remedy)


def _share(part: int, whole: int) -> float:
    return round(float(ratio(part, whole)), _DIGITS)
