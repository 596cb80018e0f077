"""What the doctor reads from pixels: masks that show no class, photos that use few of the grey levels of their file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tag2mask.data.base import DataSettings
from tag2mask.data.finding import Finding
from tag2mask.data.images import few_levels


@dataclass(frozen=True, slots=True)
class Pixels:
    """What one image and its mask hold.

    Attributes:
        id: the sample's.
        shown: class columns in the mask; None without a mask that can be read.
        ignored: whether the mask holds 255.
        grey: lowest and highest value of a photo of 16 bits or more; None for all others.
    """

    id: str
    shown: frozenset[int] | None = None
    ignored: bool = False
    grey: tuple[int, int] | None = None


def pixel_findings(images: Sequence[Pixels], settings: DataSettings) -> list[Finding]:
    """Warnings about all images together.

    Args:
        images: each once.
        settings: say whether masks of other classes were meant to become 255.
    """
    return [*_no_class([i for i in images if i.shown is not None], settings), *_dim(images)]


def _no_class(masks: Sequence[Pixels], settings: DataSettings) -> list[Finding]:
    """Masks of which none shows a class: mostly those that say 255 for the object."""
    if not masks or any(mask.shown for mask in masks):
        return []
    ids = tuple(sorted(mask.id for mask in masks))
    nothing = "As it is, 255 is ignored, no class is in the ground truth, and no mIoU can be measured"
    if any(mask.ignored for mask in masks) and settings.classes is None:
        text = "the masks hold 0 and 255 only: if 255 is your object, write 1, or give 'data.mask_values={255: 1}'"
        return [Finding("mask", "warning", ids, text, nothing)]
    text = f"none of the {len(masks)} masks shows a class"
    return [Finding("mask", "warning", ids, text, "No mIoU can be measured on them: check data.classes and the masks")]


def _dim(images: Sequence[Pixels]) -> list[Finding]:
    """Photos of 10, 12 or 14 bits in files of 16, and numbers of 8 bits in files of 32."""
    grey = [image for image in images if image.grey is not None]
    dim = [(image.grey, image.id) for image in grey if image.grey is not None and few_levels(image.grey[1])]
    if not dim:
        return []
    (_, highest), name = max(dim)
    text = f"{len(dim)} of {len(grey)} photos of 16 bits or more are nearly black: '{name}' {few_levels(highest)}"
    remedy = "Stretch their values to 0..65535 (12 bits: multiply by 16) or store them with 8 bits"
    return [Finding("image", "warning", tuple(sorted(i for _, i in dim)), text, remedy)]
