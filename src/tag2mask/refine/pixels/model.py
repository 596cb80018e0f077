"""The pixel models of a data set's thin classes in one file, and what they say of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from tag2mask.backbones.files import read_saved, rebuild, saved_classes, write_weights
from tag2mask.config.settings import Settings
from tag2mask.core.errors import WeightsError
from tag2mask.refine.pixels.features import COUNT, pixel_features
from tag2mask.refine.pixels.learning import PixelNet


class _SavedPixels(Settings):
    """What travels with pixel models."""

    pixel_features: int
    classes: tuple[str, ...]
    columns: tuple[int, ...]


class PixelModels(nn.Module):
    """One small network for each class whose pixels are distinguished; other classes have none.

    Args:
        classes: of the data.
        nets: by class column.
    """

    def __init__(self, classes: Sequence[str], nets: Mapping[int, PixelNet]) -> None:
        super().__init__()
        self.classes, self.columns = tuple(classes), tuple(sorted(nets))
        self.nets = nn.ModuleList(nets[column] for column in self.columns)

    def probabilities(self, image: NDArray[np.uint8], columns: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """How likely each pixel is of a class rather than not, thing and all else weighing alike.

        Args:
            image: (H, W, 3) uint8 RGB.
            columns: class columns; those without a model are left out.

        Returns:
            (H, W) in [0, 1] for each class column.
        """
        wanted = [column for column in columns if column in self.columns]
        if not wanted:
            return {}
        features = pixel_features(image)
        found = {}
        for column in wanted:
            net = self.nets[self.columns.index(column)]
            assert isinstance(net, PixelNet)
            found[column] = expit(net.scores(features)).reshape(image.shape[:2])
        return found


def save_pixels(models: PixelModels, path: Path) -> None:
    """Write the models; the bytes depend on their weights and classes alone."""
    about = {"pixel_features": COUNT, "classes": list(models.classes), "columns": list(models.columns)}
    write_weights(models, path, about)


def load_pixels(path: Path, classes: Sequence[str]) -> PixelModels:
    """Read models that `save_pixels` wrote.

    Args:
        path: the .safetensors file.
        classes: of the data that they serve.

    Raises:
        WeightsError: the file is damaged, holds another network, or models of other classes or of other features.
    """
    saved = read_saved(path, _SavedPixels)
    own = saved_classes(saved.classes, path)
    if own != tuple(classes):
        raise WeightsError(
            f"{path} holds pixel models of the classes {list(own)}, the data has {list(classes)}: train them on this "
            "data, or set data.classes to theirs"
        )
    if saved.pixel_features != COUNT or not all(0 <= column < len(own) for column in saved.columns):
        raise WeightsError(
            f"{path} holds pixel models of {saved.pixel_features} features for the class columns "
            f"{list(saved.columns)}: this version has {COUNT} and {len(own)} classes. Train them again"
        )
    return rebuild(
        path, saved, "none", lambda: PixelModels(own, {column: PixelNet() for column in saved.columns}),
        f"pixel models of {len(saved.columns)} classes",
    )  # fmt: skip
