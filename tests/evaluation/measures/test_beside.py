"""What stands beside mIoU in an evaluation of seeds and of masks: the same numbers by another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tag2mask.core.palette import write_labels
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.readers.folder import FolderSettings
from tag2mask.data.registry import open_split
from tag2mask.evaluation.label_images import evaluate_masks
from tag2mask.evaluation.measures.tolerance import ToleranceMetrics
from tag2mask.evaluation.measures.trivial import ALL_BACKGROUND, RANDOM_TAG
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import Threshold, cut
from tests.helpers.draw import save_image, write


class Strips(Dataset):
    """A strip of class 0 of some pixels, at another place in each image, over the half that is class 1, or nothing."""

    name, split, classes = "strips", "train", ("crack", "field")

    def __init__(self, width: int, lower: int = 2) -> None:
        self.width, self.lower = width, lower
        self.samples = [Sample(f"im{i}", (0, 1)) for i in range(4)]

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> Labels:
        truth: Labels = np.zeros((40, 40), np.uint8)
        truth[20:] = self.lower
        left = 4 + 5 * int(sample.id[2:])
        truth[:, left : left + self.width] = 1
        return truth

    @property
    def has_truth(self) -> bool:
        return True


def maps_of(sample: Sample) -> ActivationMaps:
    """The strip three pixels beside where it is, and the lower half."""
    maps = torch.zeros(2, 40, 40)
    left = 7 + 5 * int(sample.id[2:])
    maps[0, :, left : left + 3] = 0.9
    maps[1, 20:] = 0.6
    return ActivationMaps((0, 1), maps)


def test_thin_classes_alone_have_an_iou_with_a_tolerance_at_every_threshold() -> None:
    data, at = Strips(3), Threshold(0.5)
    found = evaluate_seeds(data, maps_of, [at])
    assert [score.threshold.kind for score in found.scores] == ["fixed", "oracle"]
    for score in found.scores:
        assert score.threshold.value is not None
        slow = ToleranceMetrics(data.classes, [0])
        for sample in data.samples:
            maps = maps_of(sample)
            slow.update(cut(maps.maps.numpy(), maps.classes, score.threshold.value), data.truth(sample))
        values = dict(score.values())
        assert "iou@2px/field" not in values
        assert values["iou@2px/crack"] == values["iou@2px"] == dict(slow.compute().values())["iou@2px"]
    assert dict(found.scores[0].values())["iou@2px"] == pytest.approx(50)  # as a strip moved by three pixels
    assert dict(found.scores[0].values())["iou/crack"] == 0
    rows = found.rows(stage="s", method="m", seed=0, time="2026-01-01T00:00:00Z")
    assert [r.threshold_kind for r in rows if r.metric == "iou@2px"] == ["fixed", "oracle"]


@pytest.mark.parametrize("factor", [2, 3])
def test_pixels_are_those_of_the_photo_where_it_was_enlarged(factor: int, tmp_path: Path) -> None:
    """Crack of three pixels, seeds three pixels off: at any working size the class is thin and scores alike."""
    for sample in (plain := Strips(3)).samples:
        save_image(tmp_path / "images" / f"{sample.id}.png", np.zeros((40, 40, 3), np.uint8))
        write_labels(tmp_path / "masks" / f"{sample.id}.png", plain.truth(sample))
    write(tmp_path / "tags.csv", "\n".join(["image,tags", *(f"{s.id}.png,crack;field" for s in plain.samples)]))
    settings = FolderSettings.model_validate({"root": tmp_path, "classes": plain.classes, "min_side": 40 * factor})
    large = open_split("folder", settings, "all")

    def enlarged_truth(sample: Sample) -> Labels:
        truth = large.truth(sample)
        assert truth is not None
        assert truth.shape == (40 * factor, 40 * factor)
        return truth

    def enlarged_maps(sample: Sample) -> ActivationMaps:
        return ActivationMaps((0, 1), maps_of(sample).maps.repeat_interleave(factor, 1).repeat_interleave(factor, 2))

    expected = evaluate_seeds(plain, maps_of, [Threshold(0.5)], oracle=False)
    found = evaluate_seeds(large, enlarged_maps, [Threshold(0.5)], oracle=False)
    values = dict(found.scores[0].values())
    assert values["iou@2px/crack"] == pytest.approx(dict(expected.scores[0].values())["iou@2px/crack"])
    assert "iou@2px/field" not in values
    masks = evaluate_masks(large, enlarged_truth)
    assert dict(masks.values())["iou@2px"] == 100


def test_where_no_class_is_thin_there_is_none() -> None:
    found = evaluate_seeds(Strips(16), maps_of, [Threshold(0.5)])
    assert not any("@" in metric for metric, _ in found.scores[0].values())


def test_masks_have_the_same_beside_them_as_the_same_seeds() -> None:
    data = Strips(3)

    def labels(sample: Sample) -> Labels:
        maps = maps_of(sample)
        return cut(maps.maps.numpy(), maps.classes, 0.5)

    seeds, masks = evaluate_seeds(data, maps_of, [Threshold(0.5)]), evaluate_masks(data, labels)
    assert dict(masks.values()) == pytest.approx(dict(seeds.scores[0].values()), nan_ok=True)
    assert "iou@2px" not in dict(evaluate_masks(data, labels, unsure=True).values()), "refined seeds have none"
    assert masks.trivial is not None
    assert seeds.trivial is not None
    for (name, one), (_, other) in zip(masks.trivial.scores(), seeds.trivial.scores(), strict=True):
        np.testing.assert_array_equal(one.matrix, other.matrix, err_msg=name)
    nothing = SegmentationMetrics(data.classes)
    for sample in data.samples:
        nothing.update(np.zeros((40, 40), np.uint8), data.truth(sample))
    known = dict(masks.trivial.scores())
    assert known[ALL_BACKGROUND].miou == nothing.compute().miou
    assert known[RANDOM_TAG].matrix[:, 1:].sum() == 4 * 40 * 40, "every image has a tag"


def test_data_without_background_is_measured_by_its_classes_alone() -> None:
    class Covered(Strips):
        def truth(self, sample: Sample) -> Labels:
            truth = super().truth(sample)
            truth[truth == 0] = 2
            return truth

    found = evaluate_seeds(Covered(3), maps_of, [Threshold(0.5)])
    for score in found.scores:
        values = dict(score.values())
        assert values["miou"] == values["miou_foreground"], "invented background is missed pixels, and no label"
    best = max(found.curve, key=lambda point: point.miou)
    assert found.scores[-1].threshold.value == best.threshold
