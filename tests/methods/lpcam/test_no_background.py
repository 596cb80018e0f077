"""LPCAM's context set where every pixel is of a class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch

from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.methods.lpcam.sets import Sets, share_of

A, B, C = (Sample(name, tags) for name, tags in (("a", (0,)), ("b", (1,)), ("c", (2,))))
AB = Sample("ab", (0, 1))
WITHOUT = Sets(competes=False)


def data(*samples: Sample, background: str = "none") -> Dataset:
    return cast(Dataset, SimpleNamespace(samples=samples, background=background, classes=("x", "y", "z")))


def test_the_context_is_what_other_classes_of_the_image_are() -> None:
    maps = torch.tensor([[[0.9, 0.2, 0.5]], [[0.1, 0.4, 0.5]]])
    assert share_of(ActivationMaps((0, 1), maps), 0, False).tolist() == [[1, 0, 1]], "the lower column of equal maps"
    assert share_of(ActivationMaps((0, 1), maps), 1, False).tolist() == [[0, 1, 0]]
    assert share_of(ActivationMaps((1,), maps[:1]), 1, False).tolist() == [[1, 1, 1]]
    assert torch.equal(share_of(ActivationMaps((0, 1), maps), 1, True), maps[1]), "its CAM, beside a background"


def test_images_of_other_classes_add_to_the_context() -> None:
    everything = [A, B, C, AB]
    assert WITHOUT.images(data(*everything), 2, None)[0] is C
    added = WITHOUT.images(data(*everything), 2, None)[1:]
    assert len(added) == 1
    assert 2 not in added[0].tags
    assert WITHOUT.images(data(*everything), 0, None) == [A, AB, B, C]
    assert WITHOUT.images(data(A, AB), 0, None) == [A, AB], "a class in every image"
    assert Sets().images(data(*everything, background="present"), 2, None) == [C]
    again: Any = WITHOUT.images(data(*everything), 2, None)
    assert again[1:] == added, "the same in every run"
