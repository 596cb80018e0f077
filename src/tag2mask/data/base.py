"""Data sets: what a split offers, the settings that all readers share, and findings of readers and the doctor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.core.files import file_hash
from tag2mask.core.types import Sample
from tag2mask.data.tag_noise import TagNoise


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes:
        kind: ``open`` (a split that does not open), ``image``, ``mask``, ``stem`` (two files with one name), ``split``
            (ids in two splits), ``class`` (without images, or in all), ``name`` (class names that look like several, or
            like each other), ``tags`` (mask and tags disagree), ``together`` (one class always comes with another),
            ``background`` (that the data is said to have none), ``truth`` (missing masks), ``sidecar`` (of another
            size), ``file`` (files that are not read) or ``size`` (large images).
        severity: an error stops a run or spoils it, a warning may, a note is for information.
        ids: what it is about: image ids, split names or class names.
        text: what was found.
        remedy: what to do.
    """

    kind: str
    severity: Literal["error", "warning", "note"]
    ids: tuple[str, ...]
    text: str
    remedy: str

    def lines(self) -> str:
        """Kind, the first of the ids, text and remedy, on two lines."""
        about = ", ".join(self.ids[:5]) + (f" and {len(self.ids) - 5} more" if len(self.ids) > 5 else "")
        return f"[{self.kind}] {about + ': ' if about else ''}{self.text}\n    {self.remedy}"


Labels = NDArray[np.uint8]
MAX_CLASSES = 254
Ground = Literal["present", "none", "white", "black", "foreground"]
"""What the pixels of no class are: a background, there are none (each pixel is of a class), or given ones: white or
black pixels, or those that lie outside of the sidecar ``foreground``, all others being of a class."""


class DataSettings(Settings):
    """Settings that every reader shares; a reader adds its own and sets the defaults of the splits."""

    root: Path | None = Field(None, description="folder of the data set")
    classes: tuple[str, ...] | None = Field(
        None, description="subset of the classes, in this order; pixels of others count as 255 in the ground truth"
    )
    max_side: int | None = Field(
        None,
        ge=32,
        le=2000,
        description="longest side in pixels that larger images are shrunk to, or null for as they are",
    )
    min_side: int | None = Field(
        None,
        ge=32,
        le=2000,
        description="longest side in pixels that smaller images are enlarged to, or null for as they are",
        json_schema_extra=UNPRINTED,
    )
    train: str = Field("train", description="split that trains")
    val: str | None = Field("val", description="held-out split for the classifier's average precision, or null")
    infer: str = Field("train", description="split whose images get maps and masks")
    tag_noise: TagNoise | None = Field(
        None, description="wrong tags on purpose in every split but val, such as {drop: 0.1}; masks stay as they are"
    )
    sidecars: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9-]*$")], Path] = Field(
        {},
        description="folder of further files of the images by role, such as {saliency: maps}",
        json_schema_extra=UNPRINTED,
    )
    background: Ground | Literal["auto"] = Field(
        "present",
        description="what the pixels of no class are: present (a background, cut as each stage says), none (every "
        "pixel is of a class), white, black or foreground (given: white or black pixels, or what lies outside of that "
        "sidecar, all others being of a class), auto (present or none, decided from tags and images)",
        json_schema_extra=UNPRINTED,
    )

    @model_validator(mode="after")
    def _sides(self) -> Self:
        if self.min_side is not None and self.max_side is not None and self.min_side > self.max_side:
            raise ValueError(
                f"min_side = {self.min_side} is above max_side = {self.max_side}: both are of the longest side; set "
                f"min_side={self.max_side} or less"
            )
        return self


class Dataset(ABC):
    """One split of a data set.

    Attributes:
        name: the reader's name, such as ``voc``.
        split: the split's name.
        classes: class names; column ``c`` of the tags is index ``c + 1`` in label images, 0 is background.
        samples: sorted by id.
        max_side: longest side that images are shrunk to; None where large ones are as their files hold them.
        min_side: longest side that images are enlarged to; None where small ones are as their files hold them.
        findings: what the reader noticed that is not an error.
        tag_names: every class that occurs or is declared, before a subset was taken; empty where it is not known.
        sources: files that all samples depend on, such as COCO's annotations.
        sidecar_folders: by role, of the samples' sidecars.
        background: what the pixels of no class are.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    samples: Sequence[Sample]
    max_side: int | None = None
    min_side: int | None = None
    findings: tuple[Finding, ...] = ()
    tag_names: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    sidecar_folders: Mapping[str, Path] = MappingProxyType({})
    background: Ground = "present"

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @abstractmethod
    def image(self, sample: Sample) -> Image.Image:
        """The image in RGB, upright (EXIF rotation applied).

        Raises:
            DataError: the file is missing, truncated or no image.
        """

    def photo(self, sample: Sample) -> Image.Image:
        """The image before it is brought to the working size, where that is another one."""
        return self.image(sample)

    @abstractmethod
    def truth(self, sample: Sample) -> Labels | None:
        """Ground truth, (H, W) uint8: 0 background, ``c + 1`` for class column ``c``, 255 ignored; None without it."""

    def mask_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) of the ground truth as stored, without reading pixels; None without it, or where it is drawn to fit.

        Raises:
            DataError: the file of the mask cannot be read.
        """
        return None

    def enlargement(self, sample: Sample) -> float:
        """Factor from the pixels of the ground truth as stored to those of `truth`, at least 1.

        What is measured in pixels, such as how far a pixel may be off, is measured in stored ones: an enlarged image
        shows nothing finer than its photo does. Of shrunk images the working pixels count.

        Raises:
            DataError: the file of the mask cannot be read.
        """
        return 1.0

    def remarks(self, sample: Sample) -> tuple[str, ...]:
        """What is doubtful about a sample but stops nothing, each in words that name it; the doctor's warnings."""
        return ()

    @property
    @abstractmethod
    def has_truth(self) -> bool:
        """Whether any sample has ground truth."""

    @property
    def truth_reading(self) -> str:
        """How mask files become labels, for the keys of what reads ground truth; empty for files as they are.

        Settings such as a palette change the ground truth of files that do not change themselves.
        """
        return ""

    def content_hash(self, sample: Sample) -> str:
        """SHA-256 of what the image is made of; a data set without image files overrides this."""
        assert sample.image is not None
        return file_hash(sample.image)

    def working_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) that the image is brought to before anything else; None where it stays as it is."""
        return None
