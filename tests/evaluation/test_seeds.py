"""Seeds of a split: against the slow way, with images without ground truth, in order, from several threads."""

import math
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tag2mask.core.errors import ConfigError, DataError, NothingShownError
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.best_thresholds import analyse_optimum
from tag2mask.evaluation.bootstrap import ImageCounts, label_counts, paired_bootstrap
from tag2mask.evaluation.confusion import confusion_matrix
from tag2mask.evaluation.measures import tolerance
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.robustness import robustness
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.threshold_sweep import GRID
from tag2mask.evaluation.thresholds import Threshold, cut
from tests.helpers.held_maps import Held, steps
from tests.helpers.refused import refused


class Drawn(Dataset):
    """Random truths of different sizes; images whose number is divisible by four have none."""

    name, split, classes = "drawn", "train", ("a", "b", "c")

    def __init__(self, n: int, without: int = 4) -> None:
        self.samples = [Sample(f"im{i:02}", tuple(sorted({i % 3, (i * i) % 3}))) for i in range(n)]
        self.without = without

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> Labels | None:
        number = int(sample.id[2:])
        if number % self.without == 0:
            return None
        rng = np.random.default_rng(number)
        truth = rng.integers(0, 4, (20 + number, 31)).astype(np.uint8)
        truth[:2] = 255
        return truth

    @property
    def has_truth(self) -> bool:
        return self.without > 1


def maps_of(sample: Sample) -> ActivationMaps:
    number = int(sample.id[2:])
    time.sleep(0.002 * (number % 3))  # later images are ready first
    maps = torch.rand(len(sample.tags), 6, 9, generator=torch.Generator().manual_seed(number))
    return ActivationMaps(sample.tags, maps.half())  # as they are stored


def slow(dataset: Dataset, threshold: float) -> SegmentationMetrics:
    metrics = SegmentationMetrics(dataset.classes)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        if truth is not None:
            found = maps_of(sample)
            maps = ActivationMaps(found.classes, found.maps.float()).resize(*truth.shape).maps.numpy()
            metrics.update(cut(maps, found.classes, threshold), truth)
    return metrics


def test_equals_the_slow_way() -> None:
    dataset = Drawn(10)
    counted: list[int] = []
    found = evaluate_seeds(
        dataset, maps_of, [Threshold(0.305), Threshold(0.5, "rule")], advance=lambda: counted.append(1)
    )
    assert (found.split, found.n_images, found.n_without_truth, len(counted)) == ("train", 7, 3, 10)
    assert [(s.threshold.kind, s.threshold.value) for s in found.scores[:2]] == [("fixed", 0.305), ("rule", 0.5)]
    for at in found.scores:
        assert at.threshold.value is not None
        np.testing.assert_array_equal(at.scores.matrix, slow(dataset, at.threshold.value).matrix)
    curve = {point.threshold: point.miou for point in found.curve}
    assert tuple(curve) == GRID
    oracle = found.scores[-1]
    assert oracle.threshold.kind == "oracle"
    assert oracle.scores.miou == max(curve.values())
    assert max(slow(dataset, t).compute().miou for t in GRID[::10]) <= oracle.scores.miou


def test_images_are_scored_alone_and_in_order() -> None:
    found = evaluate_seeds(Drawn(10), maps_of, [Threshold(0.4)], oracle=False, threads=3)
    assert [i.id for i in found.images] == ["im01", "im02", "im03", "im05", "im06", "im07", "im09"]
    alone = Drawn(10)
    alone.samples = alone.samples[5:6]
    assert found.images[3].miou == pytest.approx(slow(alone, 0.4).compute().miou)
    assert [s.threshold.kind for s in found.scores] == ["fixed"]


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing_and_read_only_a_little_ahead(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerance, "THIN", 0.0)  # thin classes have a second pass
    used: list[int] = []
    ahead: list[int] = []
    started = 0
    lock = threading.Lock()

    def watched(sample: Sample) -> ActivationMaps:
        nonlocal started
        with lock:
            started += 1
            ahead.append(started - len(used))
        return maps_of(sample)

    dataset = Drawn(40, without=41)
    dataset.samples = dataset.samples[1:]
    found = evaluate_seeds(dataset, watched, [], threads=threads, advance=lambda: used.append(1))
    assert found.n_images == started == 39
    assert max(ahead) <= 2 * threads + 2
    np.testing.assert_array_equal(
        found.scores[0].scores.matrix, evaluate_seeds(dataset, maps_of).scores[0].scores.matrix
    )
    assert found.images == ()


def test_rows_name_split_count_and_kind() -> None:
    found = evaluate_seeds(Drawn(6), maps_of, [Threshold(0.3)])
    rows = found.rows(stage="cam@1", method="cam", seed=1, time="t")
    assert {(r.stage, r.method, r.split, r.n_images, r.seed) for r in rows} == {("cam@1", "cam", "train", 4, 1)}
    miou = {r.threshold_kind: r.value for r in rows if r.metric == "miou"}
    assert miou == {s.threshold.kind: pytest.approx(s.scores.miou, abs=1e-4) for s in found.scores}
    assert set(miou) == {"fixed", "oracle"}


def test_no_ground_truth_at_all_is_an_error() -> None:
    with refused(DataError, "split 'train'", "ground truth", "its seeds cannot be evaluated"):
        evaluate_seeds(Drawn(3, without=1), maps_of)


def test_an_image_that_fails_is_named() -> None:
    def wrong(sample: Sample) -> ActivationMaps:
        return ActivationMaps((5,), torch.ones(1, 2, 2)) if sample.id == "im02" else maps_of(sample)

    with refused(DataError, "'im02'", "class columns [5]"):
        evaluate_seeds(Drawn(6), wrong)


@pytest.mark.parametrize("threshold", [Threshold(0.5, "oracle"), Threshold(None, "none")])
def test_the_oracle_is_found_and_not_given(threshold: Threshold) -> None:
    with refused(ConfigError, f"of kind '{threshold.kind}'", "the oracle"):
        evaluate_seeds(Drawn(3), maps_of, [threshold])


def test_a_truth_that_is_ignored_everywhere_scores_nan_alone() -> None:
    class Void(Drawn):
        def truth(self, sample: Sample) -> Labels | None:
            return np.full((4, 4), 255, np.uint8) if sample.id == "im01" else super().truth(sample)

    found = evaluate_seeds(Void(4), maps_of, [Threshold(0.3)])
    assert np.isnan(found.images[0].miou)
    assert not np.isnan(found.images[1].miou)
    assert found.n_images == 3


def test_where_no_ground_truth_shows_a_class_there_is_no_mean_and_no_oracle() -> None:
    maps, columns, truth = steps(0.5, 0.2)
    assert truth is not None
    held = Held(("a",), [(maps, columns, np.where(truth == 1, np.uint8(255), truth))] * 2)
    found = evaluate_seeds(held, held.maps, [Threshold(0.3, "fixed")])
    assert [s.threshold.kind for s in found.scores] == ["fixed"]
    assert not found.shows_classes
    assert math.isnan(found.scores[0].scores.miou)
    assert all(math.isnan(point.miou) for point in found.curve)
    assert all(math.isnan(image.miou) for image in found.images)
    with refused(NothingShownError, "the 2 images", "shows no class", "'data.mask_values="):
        found.check()
    with pytest.raises(NothingShownError):
        analyse_optimum(held, held.maps)
    with pytest.raises(NothingShownError):
        robustness(found.curve)
    matrix = confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 2), int), 2)
    counts = ImageCounts.of([label_counts(matrix)])
    assert math.isnan(counts.miou())
    assert np.isnan(counts.image_mious()).all()
    with pytest.raises(NothingShownError):
        paired_bootstrap([counts], [counts], resamples=3)
