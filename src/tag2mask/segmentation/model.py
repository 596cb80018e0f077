"""A network ready for photos: what `tag2mask.load` gives."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from tag2mask.config.engine import Engine
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.files import expanded
from tag2mask.core.palette import own_bound, palette_image
from tag2mask.segmentation.find_model import Found, find_network
from tag2mask.segmentation.predict.labeller import Labeller
from tag2mask.segmentation.predict.options import PredictOptions, PredictWords
from tag2mask.segmentation.predict.photo_readers import MAX_PIXELS, Photo, picture_of
from tag2mask.segmentation.publish.hub import fetch, push, write_folder
from tag2mask.training.device import resolve_device

P = TypeVar("P", bound=Photo)


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The labels of one photo.

    Attributes:
        labels: (H, W) uint8, 0 background, ``c + 1`` for ``classes[c]``.
        classes: C names.
    """

    labels: NDArray[np.uint8]
    classes: tuple[str, ...]

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the classes that occur, in the order of their indices."""
        return tuple(self.classes[i - 1] for i in np.unique(self.labels).tolist() if i)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The labels, for all that takes an array, such as `SegmentationMetrics.update`."""
        return np.array(self.labels, dtype=dtype, copy=copy)

    def image(self) -> Image.Image:
        """The labels as a palette image in VOC's colours; its pixels are the indices."""
        return palette_image(self.labels)


class SegmentationModel:
    """A network that gives masks of photos.

    Args:
        found: the network.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; ONNX runs on the CPU.

    Attributes:
        classes: C names.
        origin: where the network comes from, as far as known.
        hash: SHA-256 of its file.

    Raises:
        ConfigError: there is no such device.
    """

    def __init__(self, found: Found, device: str = "auto") -> None:
        self.network, self.origin, self.hash = found.network, found.origin, found.hash
        self.classes = found.network.classes
        self._segmenter = found.segmenter
        if isinstance(found.network.net, nn.Module):
            found.network.net.to(_device(device)).eval()

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, revision: str | None = None, device: str = "auto"
    ) -> SegmentationModel:
        """A network that `save_pretrained` or `push_to_hub` wrote.

        Args:
            name_or_path: a folder, or the name of a repository on the hub.
            revision: of the repository.
            device: as above.

        Raises:
            WeightsError: there is no such network.
        """
        local = expanded(name_or_path)
        return cls(find_network(local if local.exists() else fetch(str(name_or_path), revision)), device)

    @overload
    def __call__(self, photos: Photo, *, max_pixels: int = ..., **options: Unpack[PredictWords]) -> Mask: ...

    @overload
    def __call__(
        self, photos: list[P] | tuple[P, ...], *, max_pixels: int = ..., **options: Unpack[PredictWords]
    ) -> list[Mask]: ...

    def __call__(
        self,
        photos: Photo | list[P] | tuple[P, ...],
        *,
        max_pixels: int = MAX_PIXELS,
        **options: Unpack[PredictWords],
    ) -> Mask | list[Mask]:
        """Masks of photos.

        Args:
            photos: one photo, or a list of them. Files and images of Pillow's are taken upright, as their EXIF says,
                whatever they hold: the mask of ``Image.open(path)`` is that of ``path``, and fits
                ``PIL.ImageOps.exif_transpose(image)``. Arrays are (H, W, 3), or grey (H, W) or (H, W, 1), uint8 0..255
                or floating in [0, 1]; floating tensors are (3, H, W) in [0, 1].
            max_pixels: files of more are refused.
            options: any of `PredictOptions` by name, such as ``scales=(0.75, 1.0), mirror=True, crf="deeplabv2"``.

        Returns:
            One mask, of the photo's size, or a list of them for a list.

        Raises:
            ConfigError: an option is unknown or out of range.
            DataError: a photo cannot be read, or is of another shape, type or range.
            WeightsError: the network gives NaN.
        """
        labeller = Labeller(self.network, validate(PredictOptions, options, ""))
        if isinstance(photos, list | tuple):
            return [self._mask(photo, labeller, max_pixels) for photo in photos]
        return self._mask(photos, labeller, max_pixels)

    def _mask(self, photo: Photo, labeller: Labeller, max_pixels: int) -> Mask:
        with own_bound():
            picture = picture_of(photo, max_pixels)
            return Mask(labeller.labels([picture])[0], self.classes)

    def save_pretrained(self, folder: str | Path, repo_id: str | None = None) -> None:
        """Write ``model.safetensors``, ``config.json`` and a model card ``README.md``.

        Args:
            folder: new, empty, or with a network saved before, which is replaced.
            repo_id: name on the hub for the card's example; None for the folder's name.

        Raises:
            StageError: the folder holds other things, or cannot be written.
            WeightsError: the network was loaded from ONNX.
        """
        if self._segmenter is None:
            raise WeightsError("a network in ONNX cannot be saved as weights: load the run or weights it was made from")
        write_folder(self._segmenter, self.classes, self.origin, expanded(folder), repo_id)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a network of tag2mask",
    ) -> str:
        """Upload what `save_pretrained` writes.

        Args:
            repo_id: ``owner/name``; made where it is not there.
            private: whether a repository made now is; None for the owner's default.
            token: None for the one of ``hf auth login``.
            commit_message: of the upload.

        Returns:
            Address of the commit.

        Raises:
            WeightsError: the hub cannot be reached or refuses, or the network was loaded from ONNX.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id)
            return push(Path(folder), repo_id, private, token, commit_message)


def load(source: str | Path, *, stage: str | None = None, device: str = "auto") -> SegmentationModel:
    """Load a network that segments photos.

    Args:
        source: a run folder, a ``.safetensors`` or ``.onnx`` file, a folder that `SegmentationModel.save_pretrained`
            wrote, or the name of a repository on the Hugging Face hub, such as ``owner/name``.
        stage: for a run with several networks, which.
        device: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        ConfigError: an unknown stage or device.
        StageError: the run has no finished network.
        WeightsError: there is no such network.

    Example:
        >>> import tag2mask
        >>> mask = tag2mask.load("runs/photos")("new.jpg")  # doctest: +SKIP
        >>> mask.present  # doctest: +SKIP
        ('cat', 'dog')
    """
    return SegmentationModel(find_network(source, stage), device)


def _device(name: str) -> torch.device:
    try:
        return resolve_device(validate(Engine, {"device": name}, ""))
    except ConfigError as error:
        raise ConfigError(str(error).replace("engine.device", "device")) from error
