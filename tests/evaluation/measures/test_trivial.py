"""Trivial answers: by hand, against label images that really hold them, and what does not change them."""

from __future__ import annotations

import numpy as np
import pytest

from tag2mask.core.types import Sample
from tag2mask.evaluation.measures.trivial import ALL_BACKGROUND, METRICS, RANDOM_TAG, TRIVIAL, TrivialAnswers
from tag2mask.evaluation.metrics import SegmentationMetrics

CLASSES = ("cat", "dog")


def drawn(seed: int, n: int = 9) -> list[tuple[np.ndarray, Sample]]:
    rng = np.random.default_rng(seed)
    return [
        (
            np.where(rng.random((6, 7)) < 0.1, 255, rng.integers(0, 3, (6, 7))).astype(np.uint8),
            Sample(f"{seed}-{i}", tuple(np.flatnonzero(rng.random(2) < 0.7).tolist())),
        )
        for i in range(n)
    ]


def test_a_case_by_hand() -> None:
    """10 pixels: 6 background, 3 cat, 1 ignored; one tag, so nothing is left to chance."""
    answers = TrivialAnswers(CLASSES)
    answers.update(np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 255]], np.uint8), Sample("a", (0,)))
    nothing, tag = (scores for _, scores in answers.scores())
    assert nothing.miou == pytest.approx((100 * 6 / 9 + 0) / 2)
    assert (nothing.mean("iou"), nothing.f1_foreground) == (0, 0)
    assert tag.miou == pytest.approx((0 + 100 * 3 / 9) / 2)
    assert tag.mean("iou") == pytest.approx(100 / 3)
    assert tag.f1_foreground == pytest.approx(100 * 2 * 3 / (3 + 9))


def test_they_are_the_scores_of_such_label_images() -> None:
    images = drawn(0)
    answers, whole = TrivialAnswers(CLASSES), SegmentationMetrics(CLASSES)
    for truth, sample in images:
        answers.update(truth, sample)
        whole.update(np.zeros_like(truth), truth)
    known = dict(answers.scores())
    np.testing.assert_array_equal(known[ALL_BACKGROUND].matrix, whole.compute().matrix)
    tag = known[RANDOM_TAG].matrix
    np.testing.assert_array_equal(tag.sum(axis=1), whole.matrix.sum(axis=1))
    for column in range(2):  # a class that is never tagged is never drawn
        tagged = [truth for truth, sample in images if column in sample.tags]
        assert tag[:, column + 1].sum() <= sum(np.count_nonzero(truth != 255) for truth in tagged)


def test_the_tag_is_drawn_among_the_image_s_own_and_hangs_on_its_id_alone() -> None:
    images = drawn(1, 200)
    forward, backward = TrivialAnswers(CLASSES), TrivialAnswers(CLASSES)
    for truth, sample in images:
        forward.update(truth, sample)
    for truth, sample in reversed(images):
        backward.update(truth, sample)
    for (name, one), (_, other) in zip(forward.scores(), backward.scores(), strict=True):
        np.testing.assert_array_equal(one.matrix, other.matrix, err_msg=name)
    both = TrivialAnswers(CLASSES)
    for i in range(200):
        both.update(np.ones((1, 1), np.uint8), Sample(f"i{i}", (0, 1)))
    drawn_cats = dict(both.scores())[RANDOM_TAG].matrix[1, 1]
    assert 70 < drawn_cats < 130, "both tags come up"


def test_an_image_without_tags_is_background_and_nothing_counted_gives_nothing() -> None:
    answers = TrivialAnswers(CLASSES)
    assert answers.scores() == ()
    answers.update(np.zeros((2, 2), np.uint8), Sample("a", ()))
    assert answers.scores() == (), "no class is shown, so no mean is defined"
    answers.update(np.ones((1, 1), np.uint8), Sample("b", ()))
    assert dict(answers.scores())[RANDOM_TAG].matrix[:, 0].tolist() == [4, 1, 0]


def test_rows_have_the_names_of_the_answers_and_three_metrics() -> None:
    answers = TrivialAnswers(CLASSES)
    for truth, sample in drawn(2):
        answers.update(truth, sample)
    rows = answers.rows(split="train", seed=3, time="2026-01-01T00:00:00Z")
    assert [(r.stage, r.method, r.metric) for r in rows] == [(n, n, m) for n in TRIVIAL for m in METRICS]
    assert {(r.split, r.n_images, r.threshold_kind, r.threshold, r.seed) for r in rows} == {
        ("train", 9, "none", None, 3)
    }
