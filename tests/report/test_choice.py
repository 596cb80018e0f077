"""Images are chosen by rule: listed, best, middle, worst, random; none ignored to a large part."""

import math

from tag2mask.report.choice import Candidate, ImageChoice, choose_images, draw

SCORES = {"a": 10.0, "b": 90.0, "c": 50.0, "d": math.nan, "e": 40.0, "f": 60.0, "g": 60.0}
EVERY = tuple("abcdefgh")


def chosen(choice: ImageChoice, ignored: dict[str, float] | None = None) -> list[tuple[str, str]]:
    return list(choose_images([Candidate(i, s, (ignored or {}).get(i, 0.0)) for i, s in SCORES.items()], EVERY, choice))


def test_best_median_and_worst_of_those_with_a_score() -> None:
    assert chosen(ImageChoice(each=1, random=0)) == [("b", "best of 6"), ("g", "median of 6"), ("a", "worst of 6")]
    assert [i for i, _ in chosen(ImageChoice(each=2, random=0))] == ["b", "f", "g", "c", "a", "e"]
    assert choose_images([Candidate("a", 1.0)], ["a"], ImageChoice(random=0)) == (("a", "best of 1"),), "no id twice"
    assert choose_images([Candidate("a", math.nan)], ["a"], ImageChoice(random=0)) == ()


def test_an_image_that_is_mostly_ignored_is_neither_best_nor_worst() -> None:
    ignored = {"b": 0.26, "a": 0.9, "g": 0.25}
    assert chosen(ImageChoice(each=1, random=0), ignored) == [
        ("f", "best of 4"),
        ("g", "median of 4"),
        ("e", "worst of 4"),
    ]


def test_listed_images_come_first_whatever_their_ignored_share() -> None:
    found = chosen(ImageChoice(("h", "b"), each=1, random=0), {"b": 1.0})
    assert found[:3] == [("h", "chosen"), ("b", "chosen"), ("f", "best of 5")]
    assert chosen(ImageChoice(("nowhere",), each=0, random=0)) == [], "another split's image"


def test_random_ones_follow_the_seed_and_are_not_shown_twice() -> None:
    one, two = (chosen(ImageChoice(each=1, random=3, seed=7)) for _ in range(2))
    assert one == two
    assert len({i for i, _ in one}) == 6
    assert [why for _, why in one[3:]] == ["random, seed 7"] * 3
    draws = {draw(EVERY, 3, seed) for seed in range(20)}
    assert len(draws) > 5
    assert draw(EVERY, 99, 0) == EVERY
