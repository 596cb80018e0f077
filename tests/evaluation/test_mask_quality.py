"""Signals of mask quality: what holds for every registered one, values by hand, the combined score, the worst."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.mask_quality import SIGNALS, ClassProbabilities, MaskEvidence, mask_iou, signal
from tag2mask.evaluation.quality_ranking import SCORE, Assessed, assess
from tag2mask.evaluation.result_tables import Origin
from tag2mask.evaluation.thresholds import Threshold, cut
from tests.helpers.refused import refused

Image = NDArray[np.uint8]
NAN = math.nan


def random_look(seed: int, classes: tuple[int, ...] = (0, 2)) -> MaskEvidence:
    """Noisy maps of two objects, and everything else that a signal may ask for."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((16, 20), np.uint8)
    truth[2:8, 3:9], truth[8:15, 10:18] = classes[0] + 1, classes[1] + 1
    maps = np.stack([np.clip(0.7 * (truth == c + 1) + rng.random(truth.shape) / 2, 0, 1) for c in classes])
    maps = maps.astype(np.float32)
    refined = np.where(rng.random(truth.shape) < 0.2, np.uint8(255), truth)
    return MaskEvidence(
        cut(maps, classes, 0.55), classes, maps, 0.55,
        others=(cut(maps, classes, 0.4), truth), refined=refined, scales=(truth, cut(maps, classes, 0.7)),
        classifier=ClassProbabilities((0.9, 0.6), (0.7, 0.65), (0.2, 0.5)),
    )  # fmt: skip


def ideal() -> MaskEvidence:
    """All agree, the maps are 1 on the objects and 0 elsewhere, and the classifier hangs on the masks alone."""
    mask = random_look(0).others[1]
    maps = np.stack([(mask == c + 1).astype(np.float32) for c in (0, 2)])
    classifier = ClassProbabilities((1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
    return MaskEvidence(mask, (0, 2), maps, 0.5, (mask, mask), mask, (mask, mask), classifier)


def poor() -> MaskEvidence:
    """The mask of one class is missing and that of the other is elsewhere; nothing agrees with it."""
    good = ideal()
    assert good.maps is not None
    mask = np.zeros_like(good.mask)
    mask[12:, :4] = 1
    half = np.full_like(good.maps, 0.5)
    unsure = np.where(good.mask > 0, np.uint8(255), good.mask)
    return MaskEvidence(
        mask, (0, 2), half, 0.5, good.others, unsure, good.scales, ClassProbabilities((0.3,), (0.05,), (0.3,))
    )


@pytest.fixture(params=sorted(SIGNALS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("seed", range(4))
def test_every_signal_lies_between_0_and_1(name: str, seed: int) -> None:
    value = SIGNALS[name].measure(random_look(seed))
    assert 0 <= value <= 1
    assert SIGNALS[name].measure(random_look(seed)) == value


def test_every_signal_is_best_where_all_is_right(name: str) -> None:
    good, bad = (SIGNALS[name].measure(evidence) for evidence in (ideal(), poor()))
    assert good > bad
    if SIGNALS[name].combined:
        assert good == pytest.approx(1)


def flipped(evidence: MaskEvidence) -> MaskEvidence:
    assert evidence.maps is not None
    assert evidence.refined is not None
    return MaskEvidence(
        evidence.mask[:, ::-1], evidence.classes, evidence.maps[..., ::-1], evidence.threshold,
        tuple(o[:, ::-1] for o in evidence.others), evidence.refined[:, ::-1],
        tuple(s[:, ::-1] for s in evidence.scales), evidence.classifier,
    )  # fmt: skip


def test_no_signal_knows_left_from_right_nor_one_class_from_another(name: str) -> None:
    evidence, measure = random_look(3), SIGNALS[name].measure
    assert measure(flipped(evidence)) == pytest.approx(measure(evidence))
    assert measure(random_look(3, (4, 6))) == pytest.approx(measure(evidence))


def test_no_signal_fails_where_what_it_needs_is_missing(name: str) -> None:
    evidence, measure = random_look(1), SIGNALS[name].measure
    bare = measure(MaskEvidence(evidence.mask, evidence.classes))
    assert math.isnan(bare) == (name not in {"found", "area"})
    nothing = np.zeros((4, 5), np.uint8)
    empty = np.zeros((0, 4, 5), np.float32)
    for value in (
        measure(MaskEvidence(nothing, ())),
        measure(MaskEvidence(nothing, (), empty, 0.3, (nothing,), nothing, (), ClassProbabilities((), (), ()))),
        measure(MaskEvidence(nothing, (1,), np.zeros((1, 4, 5), np.float32), 0.3, (nothing,), nothing + 255, (), None)),
    ):
        assert math.isnan(value) or 0 <= value <= 1


def test_iou_of_two_masks_by_hand() -> None:
    one, other = np.array([[0, 0, 1, 1], [2, 2, 255, 0]], np.uint8), np.array([[0, 1, 1, 1], [0, 255, 1, 0]], np.uint8)
    # sure: 0/0, 0/1, 1/1, 1/1, 2/0, 0/0: background 2/4, first 2/3, second 0/1
    assert mask_iou(one, other) == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert mask_iou(one, other) == mask_iou(other, one)
    assert math.isnan(mask_iou(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8)))


def test_values_by_hand() -> None:
    mask = np.array([[1, 1, 0, 0]], np.uint8)
    maps = np.array([[[0.9, 0.5, 0.45, 0.1]], [[0.0, 0.1, 0.2, 0.3]]], np.float32)
    other, refined = np.array([[1, 0, 0, 0]], np.uint8), np.array([[1, 255, 255, 0]], np.uint8)
    evidence = MaskEvidence(
        mask, (0, 1), maps, 0.48, (other, mask), refined, (other,), ClassProbabilities((0.8,), (0.6,), (0.2,))
    )
    values = {name: s.measure(evidence) for name, s in SIGNALS.items()}
    third = (1 / 2 + 2 / 3) / 2  # of mask and other: class 1/2, background 2/3
    assert values == pytest.approx(
        {
            "found": 0.5,
            "agreement": (third + 1) / 2,
            "scales": third,
            "crf": 1.0,
            "sure": 1 / 3,
            "gap": (0.9 + 0.5) / 2 - (0.45 + 0.1) / 2,
            "stability": (1 / 3 + 1 / 3) / 2,  # 0.38 gives three pixels, 0.58 one: class 1/3, background 1/3
            "kept": 0.6,
            "erased": 0.75,
            "whole": 0.8,
            "area": 0.5,
        }
    )
    own = replace(evidence, threshold=np.array([0.48, 0.48], np.float32))
    assert SIGNALS["stability"].measure(own) == pytest.approx(values["stability"])


@pytest.fixture
def darkness() -> Iterator[str]:
    """A signal that a user has registered."""
    signal("darkness", "share of background")(lambda evidence: float((evidence.mask == 0).mean()))
    yield "darkness"
    del SIGNALS["darkness"]


def images(count: int = 6) -> list[Assessed]:
    """Masks that miss more and more of the ground truth; of the last image no ground truth is known."""
    made = []
    for missing in range(count):
        truth = np.zeros((8, 8), np.uint8)
        truth[1:7, 1:7] = 1
        mask = truth.copy()
        mask[1 : 1 + missing] = 0
        evidence = MaskEvidence(mask, (0,), others=(truth,))
        made.append(Assessed(f"i{missing}", evidence, truth if missing < count - 1 else None))
    return made


def test_the_order_of_the_scores_is_that_of_the_signals() -> None:
    found = assess(images(), ("a",), "train")
    assert found.names == ("found", "agreement", "area")  # the others said nothing
    assert [i.id for i in found.worst(3)] == ["i5", "i4", "i3"]
    assert found.n_with_truth == 5
    assert found.images[0].miou == 100
    assert math.isnan(found.images[5].miou)
    assert found.correlation("agreement") == pytest.approx(1)
    assert found.correlation(SCORE) == pytest.approx(1)
    assert math.isnan(found.correlation("found"))  # the same for all
    scores = [i.score for i in found.images]
    np.testing.assert_allclose(scores, np.linspace(1, 0, 6))  # 'found' is constant, 'area' a baseline


def test_a_new_signal_takes_part_without_more(darkness: str) -> None:
    found = assess(images(), ("a",), "train")
    assert found.names[-1] == darkness
    assert found.correlation(darkness) == pytest.approx(-1)
    np.testing.assert_allclose([i.score for i in found.images], [0.5] * 6)  # says the contrary of 'agreement'
    with refused(ConfigError, "'darkness' is registered", "choose another name"):
        signal(darkness, "again")(lambda evidence: 0.0)


def test_numbers_for_results() -> None:
    found = assess(images(), ("a",), "train")
    rows = found.results(Threshold(0.3, "fixed"), Origin("cam", 1, "c"), worst=3)
    values = {row.metric: row.value for row in rows}
    assert list(values) == [
        "spearman/score", "spearman/found", "spearman/agreement", "spearman/area", "image_miou", "image_miou_worst",
    ]  # fmt: skip
    known = [i.miou for i in found.images[:5]]
    assert values["image_miou"] == pytest.approx(sum(known) / 5, abs=1e-4)
    assert values["image_miou_worst"] == pytest.approx((known[4] + known[3]) / 2, abs=1e-4)
    assert (values["spearman/score"], values["spearman/found"]) == (1, None)
    assert {(r.method, r.split, r.n_images, r.threshold_kind, r.threshold, r.seed) for r in rows} == {
        ("cam", "train", 5, "fixed", 0.3, 1)
    }
    blind = [Assessed(i.id, i.evidence) for i in images()]
    assert assess(blind, ("a",), "train").results(Threshold(None, "none"), Origin("", 0, ""), worst=3) == ()


def test_the_score_does_not_look_at_ground_truth() -> None:
    seen = assess(images(), ("a",), "train")
    blind = assess([Assessed(i.id, i.evidence) for i in images()], ("a",), "train")
    assert [(i.score, i.signals) for i in blind.images] == [(i.score, i.signals) for i in seen.images]


def test_nothing_to_assess_is_an_error() -> None:
    with refused(DataError, "split 'train'", "no image", "a mask to assess"):
        assess([], ("a",), "train")
    wrong = Assessed("x", MaskEvidence(np.zeros((2, 2), np.uint8), ()), np.zeros((2, 3), np.uint8))
    with refused(DataError, "'x' has shape (2, 2)", "ground truth (2, 3)"):
        assess([wrong], ("a",), "train")


def test_without_any_signal_there_is_no_score() -> None:
    evidence = MaskEvidence(np.zeros((2, 2), np.uint8), ())
    found = assess([Assessed("x", evidence), Assessed("y", evidence)], ("a",), "train")
    assert found.names == ("area",)
    assert all(math.isnan(i.score) for i in found.images)
    assert [i.id for i in found.worst(2)] == ["x", "y"]
