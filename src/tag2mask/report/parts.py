"""What a page is made of: runs, their splits, the images shown, and what each stage cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tag2mask.report.gallery import GalleryClass
from tag2mask.report.scores import MethodResult


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
    """One picture of an image: the photo with layers over it.

    Attributes:
        what: ``photo``, ``map``, ``seeds``, ``labels`` or ``truth``.
        caption: what it is, such as ``cam: dog``; of seeds, the threshold in words.
        alt: what it shows, for those who do not see it.
        layers: from below.
        stage: whose map or seeds these are; a slider moves what has the same stage.
        column: class of a map.
        share: of seeds, the share of the pixels that each class has, in words.
        note: a number that holds at the measured threshold only.
    """

    what: str
    caption: str
    alt: str
    layers: tuple[Layer, ...] = ()
    stage: str = ""
    column: int | None = None
    share: str = ""
    note: str = ""


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
    """What a run made of one split.

    Attributes:
        split: its name.
        n_images: images with ground truth that were counted.
        n_without_truth: images left out.
        methods: what was measured; empty where there is no ground truth.
        notes: further sentences.
        shown: a handful of images.
    """

    split: str
    n_images: int
    n_without_truth: int
    methods: tuple[MethodResult, ...]
    notes: tuple[str, ...] = ()
    shown: tuple[ShownImage, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPart:
    """Everything a page shows of one run.

    Attributes:
        name: of the run, such as its folder.
        title: the recipe's name and description.
        data: the data set in words.
        classes: names in the order of the columns.
        ledger: supervision that the results have seen, all together.
        seeds: of the run.
        parts: one for each split that was looked at.
        thresholds: measured threshold of each stage of maps, where the sliders begin.
        times: of the stages, in order.
        command: the one that reruns it.
        recipe: the whole recipe as text.
        environment: versions and machine.
        galleries: prototypes of each stage that made some.
        gallery_note: what of them is shown, and what shows the rest.
    """

    name: str
    title: str
    data: str
    classes: tuple[str, ...]
    ledger: tuple[str, ...]
    seeds: tuple[int, ...]
    parts: tuple[SplitPart, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    times: tuple[StageTime, ...] = ()
    command: str = ""
    recipe: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    galleries: tuple[tuple[str, tuple[GalleryClass, ...]], ...] = ()
    gallery_note: str = ""
