"""Who won: within one kind of threshold and one set of images, over seeds, to one decimal."""

import math
from dataclasses import replace

import pytest

from tag2mask.core.errors import DataError
from tag2mask.report.scores import MethodResult, Score, groups, headline, means


def method(name: str, fixed: float, oracle: float, at: float = 0.35, n_images: int = 48) -> MethodResult:
    scores = (
        Score("fixed", 0.3, fixed, 21, 22, 71, 72, n_images),
        Score("oracle", at, oracle, 23, 24, 73, math.nan, n_images),
    )
    return MethodResult(name, scores, ((0.0, 10.0), (at, oracle), (1.0, 5.0)))


CAM, LPCAM_F, LPCAM = method("CAM", 50.14, 52.3), method("LPCAM-F", 51.1, 53.7, 0.7), method("LPCAM", 49.0, 58.94, 0.5)


def test_the_winner_is_named_for_each_kind_alone() -> None:
    assert headline([CAM, LPCAM_F, LPCAM]) == (
        "LPCAM-F wins at fixed thresholds with 51.1 mIoU, 1.0 points ahead (CAM 50.1, LPCAM 49.0).",
        "LPCAM wins at oracle thresholds with 58.9 mIoU, 5.2 points ahead (LPCAM-F 53.7, CAM 52.3).",
    )


def test_draws_single_methods_and_undefined_numbers_are_said() -> None:
    one, two = method("A", 50.02, math.nan), method("B", 49.98, math.nan)
    assert headline([one, two, method("C", 40, math.nan)]) == (
        "A and B are level at fixed thresholds with 50.0 mIoU.",
        "Nothing to compare at oracle thresholds.",
    )
    mask = MethodResult("masks", (Score("none", None, 60, 1, 2, 3, 4),))
    assert headline([mask]) == ("masks reaches 60.0 mIoU without a threshold.",)
    with pytest.raises(DataError, match="at least one method with a score; evaluate a stage first"):
        headline([MethodResult("A", ())])


def test_a_method_without_a_kind_is_not_compared_in_it() -> None:
    only_oracle = MethodResult("X", (Score("oracle", 0.1, 99, 0, 0, 0, 0, 48),))
    fixed, oracle = groups([CAM, only_oracle])
    assert ([n for n, _ in fixed.scores], [n for n, _ in oracle.scores]) == (["CAM"], ["CAM", "X"])
    assert headline([CAM, only_oracle])[0] == "CAM reaches 50.1 mIoU at fixed thresholds."


def test_numbers_of_other_images_are_not_compared_and_say_their_count() -> None:
    fewer = method("fewer", 99.0, 99.0, n_images=9)
    assert headline([CAM, fewer])[:2] == (
        "CAM reaches 50.1 mIoU at fixed thresholds on 48 images.",
        "CAM reaches 52.3 mIoU at oracle thresholds on 48 images.",
    )
    same_count = replace(CAM, name="other", images="another hash")
    assert [len(g.scores) for g in groups([CAM, same_count])] == [1, 1, 1, 1]


def test_seeds_are_one_method_with_mean_and_deviation() -> None:
    runs = [method(f"m@{i}", value, math.nan) for i, value in enumerate((50.0, 52.0, 54.0))]
    (mean,) = means([(m.name, m.scores[0]) for m in runs])
    assert (mean.name, mean.n, mean.value, mean.sd) == ("m", 3, 52.0, 2.0)
    assert headline([*runs, CAM])[0] == (
        "m wins at fixed thresholds with 52.0 ± 2.0 (3 seeds) mIoU, 1.9 points ahead (CAM 50.1)."
    )
    alone = means([("m@1", runs[1].scores[0])])[0]
    assert (alone.name, alone.text) == ("m@1", "52.0"), "one seed is no mean"
