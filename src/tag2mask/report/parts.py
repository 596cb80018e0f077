"""The values that a page is drawn from: runs, their splits, the images shown, and what each stage cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tag2mask.report.gallery import GalleryClass
from tag2mask.report.scores import MethodResult, Score


@dataclass(frozen=True, slots=True)
class StageTime:
    """What one stage cost: seconds, 0 where it was taken from the store; images, 0 where it has none to count.

    ``memory`` is the largest resident memory of the run by its end, in bytes; 0 where it is not known.
    """

    name: str
    seconds: float
    n_images: int = 0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A PNG as a ``data:`` URI, stretched over the photo, of one class column; None: of the ignored pixels."""

    uri: str
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of an image: the photo with layers over it."""

    what: str  # photo, map, seeds, labels or truth
    caption: str  # what it is, such as cam: dog; of seeds, the threshold in words
    alt: str  # what it shows, for those who do not see it
    layers: tuple[Layer, ...] = ()  # from below
    stage: str = ""  # whose map or seeds these are; a slider moves what has the same stage
    column: int | None = None  # class of a map
    share: str = ""  # of seeds, the share of the pixels that each class has, in words
    note: str = ""  # a number that holds at the measured threshold only


@dataclass(frozen=True, slots=True)
class ShownImage:
    """One image of a page, why it is shown, and its panels in the order of the way from image to prediction.

    The photo is a JPEG as a ``data:`` URI, stored once for all panels in ``width`` x ``height``.
    """

    id: str
    reason: str
    photo: str
    width: int
    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class SplitPart:
    """What a run made of one split."""

    split: str
    n_images: int  # images with ground truth that were counted
    n_without_truth: int  # images left out
    methods: tuple[MethodResult, ...]  # what was measured; empty where there is no ground truth
    notes: tuple[str, ...] = ()  # further sentences
    shown: tuple[ShownImage, ...] = ()  # a handful of images
    trivial: tuple[tuple[str, Score], ...] = ()  # what trivial answers reach, by name; each on its count of images


@dataclass(frozen=True, slots=True)
class RunPart:
    """Everything a page shows of one run."""

    name: str  # such as its folder
    title: str  # the recipe's name and description
    data: str  # the data set in words
    classes: tuple[str, ...]  # in the order of the columns
    ledger: tuple[str, ...]  # supervision that the results have seen, all together
    seeds: tuple[int, ...]
    parts: tuple[SplitPart, ...]  # one for each split that was looked at
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of each stage of maps, where the sliders begin
    times: tuple[StageTime, ...] = ()  # of the stages, in order
    command: str = ""  # that makes the same again
    recipe: str = ""  # the whole of it as text
    environment: Mapping[str, str] = field(default_factory=dict)  # versions and machine
    galleries: tuple[tuple[str, tuple[GalleryClass, ...]], ...] = ()  # of each stage
    gallery_note: str = ""  # what of them is shown, and what shows the rest
