"""The best: within one kind of threshold and one set of images, over seeds, to one decimal."""

import math
from dataclasses import replace

from tag2mask.core.errors import DataError
from tag2mask.report.scores import MethodResult, Score, groups, headlines, means
from tests.helpers.refused import refused


def method(name: str, fixed: float, oracle: float, at: float = 0.35, n_images: int = 48) -> MethodResult:
    scores = (
        Score("fixed", 0.3, fixed, 21, 22, 71, 72, n_images),
        Score("oracle", at, oracle, 23, 24, 73, math.nan, n_images),
    )
    return MethodResult(name, scores, ((0.0, 10.0), (at, oracle), (1.0, 5.0)))


CAM, LPCAM_F, LPCAM = method("CAM", 50.14, 52.3), method("LPCAM-F", 51.1, 53.7, 0.7), method("LPCAM", 49.0, 58.94, 0.5)


def said(methods: list[MethodResult]) -> list[tuple[str, str, str, str]]:
    return [(h.number, h.name, h.at, h.lead) for h in headlines(methods)]


def test_the_best_is_named_for_each_kind_alone_and_bounds_come_last() -> None:
    assert said([CAM, LPCAM_F, LPCAM]) == [
        ("51.1", "LPCAM-F", "fixed threshold, 48 images", "1.0 points ahead of CAM (50.1)"),
        ("58.9", "LPCAM", "oracle threshold, 48 images", "5.2 points ahead of LPCAM-F (53.7)"),
    ]
    turned = [replace(m, scores=m.scores[::-1]) for m in (CAM, LPCAM_F)]
    assert [(h.at, h.bound) for h in headlines(turned)] == [
        ("fixed threshold, 48 images", False), ("oracle threshold, 48 images", True),
    ]  # fmt: skip


def test_draws_single_methods_and_undefined_numbers_are_said() -> None:
    one, two = method("A", 50.02, math.nan), method("B", 49.98, math.nan)
    assert said([one, two, method("C", 40, math.nan)]) == [
        ("50.0", "A and B", "fixed threshold, 48 images", "10.0 points ahead of C (40.0)"),
        ("–", "nothing defined", "oracle threshold, 48 images", ""),
    ]
    mask = MethodResult("masks", (Score("none", None, 60, 1, 2, 3, 4, 1),))
    assert said([mask]) == [("60.0", "masks", "masks, no threshold, 1 image", "")]
    with refused(DataError, "a page", "method with a score", "give the recipe a stage"):
        headlines([MethodResult("A", ())])


def test_each_headline_names_its_supervision_and_another_one_s() -> None:
    saliency = replace(LPCAM_F, scores=(replace(LPCAM_F.scores[0], ledger=("saliency", "tags")),))
    first = headlines([CAM, saliency])[0]
    assert first.ledger == ("saliency", "tags")
    assert first.lead == "1.0 points ahead of CAM (50.1, supervision tags)"
    assert headlines([CAM, LPCAM_F])[0].ledger == ("tags",)


def test_a_method_without_a_kind_is_not_compared_in_it() -> None:
    only_oracle = MethodResult("X", (Score("oracle", 0.1, 99, 0, 0, 0, 0, 48),))
    fixed, oracle = groups([CAM, only_oracle])
    assert ([n for n, _ in fixed.scores], [n for n, _ in oracle.scores]) == (["CAM"], ["CAM", "X"])
    assert said([CAM, only_oracle])[0] == ("50.1", "CAM", "fixed threshold, 48 images", "")


def test_numbers_of_other_images_are_not_compared_and_say_their_count() -> None:
    fewer = method("fewer", 99.0, 99.0, n_images=9)
    assert said([CAM, fewer])[:2] == [
        ("50.1", "CAM", "fixed threshold, 48 images", ""), ("99.0", "fewer", "fixed threshold, 9 images", ""),
    ]  # fmt: skip
    same_count = replace(CAM, name="other", images="another hash")
    assert [len(g.scores) for g in groups([CAM, same_count])] == [1, 1, 1, 1]


def test_seeds_are_one_method_with_mean_and_deviation() -> None:
    runs = [method(f"m@{i}", value, math.nan) for i, value in enumerate((50.0, 52.0, 54.0))]
    (mean,) = means([(m.name, m.scores[0]) for m in runs])
    assert (mean.name, mean.n, mean.value, mean.sd) == ("m", 3, 52.0, 2.0)
    assert said([*runs, CAM])[0] == (
        "52.0 ± 2.0 (3 seeds)", "m", "fixed threshold, 48 images", "1.9 points ahead of CAM (50.1)",
    )  # fmt: skip
    seeing = replace(runs[2], scores=(replace(runs[2].scores[0], ledger=("text",)),))
    assert headlines([*runs[:2], seeing])[0].ledger == ("tags", "text"), "of all seeds together"
    alone = means([("m@1", runs[1].scores[0])])[0]
    assert (alone.name, alone.text) == ("m@1", "52.0"), "one seed is no mean"
