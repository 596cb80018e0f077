"""Warns of tags that may spoil a classifier, with the remedy, for the doctor and ``tag2mask analyse co-occurrence``.

``tag2mask doctor`` and ``tag2mask analyse co-occurrence`` both say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tag2mask.data.cooccurrence import Cooccurrence

TOGETHER_SHARE = 0.9
"""Share of a class's images that show another one too, from which on tags hardly distinguish the two."""

TOGETHER_IMAGES = 10
"""Fewer images of a class say nothing about what comes with it."""

FEW_IMAGES = 20
"""Fewer images of a class teach little."""

IMBALANCE = 20.0
"""How many times more images the largest class has than the smallest, from which on it is worth a word."""

UNTAGGED_SHARE = 0.2
"""Share of images without a tag from which on it is worth a word."""


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


def remarks(tags: Cooccurrence) -> tuple[Remark, ...]:
    """What may spoil a classifier that learns from these tags, the worst first."""
    apart = inseparable(tags)
    everywhere = any(remark.kind == "everywhere" for remark in apart)
    paired = {remark.classes[0] for remark in apart}
    return (
        *_missing(tags),
        *apart,
        *(remark for remark in ([] if everywhere else _never_alone(tags)) if remark.classes[0] not in paired),
        *_few(tags),
        *_imbalance(tags),
        *_untagged(tags),
    )


def inseparable(tags: Cooccurrence) -> tuple[Remark, ...]:
    """What tags cannot distinguish: classes in all images, and pairs of which one hardly ever comes without the other.

    The remarks are of the kinds ``everywhere``, in the order of classes, then ``together``, the closest pairs first.
    """
    enough = tags.n_images >= TOGETHER_IMAGES
    always = [c for c in range(len(tags.classes)) if enough and tags.images[c] == tags.n_images]
    return (*(_everywhere(tags.classes[c], tags.n_images) for c in always), *_together(tags, always))


def _missing(tags: Cooccurrence) -> tuple[Remark, ...]:
    names = tuple(name for name, n in zip(tags.classes, tags.images, strict=True) if not n)
    if not names:
        return ()
    text = f"{len(names)} of {len(tags.classes)} classes have no image: {', '.join(names)}"
    return (Remark("missing", names, text, "They cannot be learnt: add images, or list the others in classes"),)


def _few(tags: Cooccurrence) -> tuple[Remark, ...]:
    few = [(name, int(n)) for name, n in zip(tags.classes, tags.images, strict=True) if 0 < n < FEW_IMAGES]
    if not few:
        return ()
    text = f"fewer than {FEW_IMAGES} images: " + ", ".join(f"{name} ({n})" for name, n in few)
    return (Remark("few", tuple(name for name, _ in few), text, "Add images of them; their maps will be poor"),)


def _together(tags: Cooccurrence, always: Sequence[int]) -> tuple[Remark, ...]:
    """Ordered pairs (a, b) where a is (nearly) never seen without b; what is in all images is said elsewhere."""
    found = []
    for a, name in enumerate(tags.classes):
        for b, other in enumerate(tags.classes):
            both, own = int(tags.counts[a, b]), int(tags.images[a])
            if a == b or b in always or own < TOGETHER_IMAGES or both < TOGETHER_SHARE * own:
                continue
            words = f"all {own}" if both == own else f"{both} of the {own}"
            text = f"'{name}' is {'never' if both == own else 'hardly ever'} seen without '{other}': {words} images"
            remedy = f"Tags alone hardly distinguish the two: add images of '{name}' without '{other}'"
            found.append((both / own, own, Remark("together", (name, other), text, remedy)))
    return tuple(remark for _, _, remark in sorted(found, key=lambda f: (-f[0], -f[1], f[2].classes)))


def _never_alone(tags: Cooccurrence) -> list[Remark]:
    """Classes that (nearly) always come with some other class, be it now this one and now that."""
    found = []
    for line in tags.class_lines():
        if line.images < TOGETHER_IMAGES or line.images - line.alone < TOGETHER_SHARE * line.images:
            continue
        words = f"{line.images - line.alone} of its {line.images} images show another class too"
        text = f"'{line.name}' is {'hardly ever' if line.alone else 'never'} seen alone: {words}"
        most = f"most often '{line.companion}' ({line.companion_share:.0%})"
        remedy = f"Its maps may spread over those classes: add images of '{line.name}' alone"
        found.append(Remark("never-alone", (line.name,), f"{text}, {most}", remedy))
    return found


def _imbalance(tags: Cooccurrence) -> tuple[Remark, ...]:
    seen = [(int(n), name) for name, n in zip(tags.classes, tags.images, strict=True) if n]
    if not seen or max(seen)[0] < IMBALANCE * min(seen)[0]:
        return ()
    (most, large), (least, small) = max(seen), min(seen)
    text = f"'{large}' has {most} images, '{small}' {least}: {most / least:.0f} times as many"
    return (Remark("imbalance", (large, small), text, f"Add images of '{small}', or leave some of '{large}' out"),)


def _untagged(tags: Cooccurrence) -> tuple[Remark, ...]:
    if tags.untagged < UNTAGGED_SHARE * tags.n_images or not tags.untagged:
        return ()
    text = f"{tags.untagged} of {tags.n_images} images have no tag and are learnt as images of nothing"
    return (Remark("untagged", (), text, "Tag them, or take them out where they were only never looked at"),)


def _everywhere(name: str, n_images: int) -> Remark:
    remedy = "Add images without it: an empty tag cell, or a sub-folder named background, says that none is there"
    return Remark("everywhere", (name,), f"all {n_images} images are tagged '{name}'", remedy)
