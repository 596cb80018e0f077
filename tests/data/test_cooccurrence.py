"""Tags that come together: counts by hand, formulas against numpy, and the remarks one by one."""

import math

import numpy as np
import pytest

from tag2mask.core.errors import DataError
from tag2mask.data.cooccurrence import Cooccurrence, cooccurrence
from tag2mask.data.tag_remarks import remarks
from tests.helpers.refused import refused

NAMES = ("train", "rail", "boat")


def random_tags(seed: int, n: int = 60) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(np.flatnonzero(rng.random(3) < (0.5, 0.3, 0.2)).tolist()) for _ in range(n)]


def kinds(found: Cooccurrence) -> list[str]:
    return [remark.kind for remark in remarks(found)]


def test_a_case_by_hand() -> None:
    found = cooccurrence([(0, 1), (1, 0), (1,), (2,), ()], NAMES)
    assert (found.n_images, found.untagged) == (5, 1)
    assert found.counts.tolist() == [[2, 2, 0], [2, 3, 0], [0, 0, 1]]
    assert found.images.tolist() == [2, 3, 1]
    assert found.alone.tolist() == [0, 1, 1]
    assert found.conditional[0].tolist() == [1, 1, 0]
    assert found.conditional[1, 0] == pytest.approx(2 / 3)
    assert found.lift[0, 1] == found.lift[1, 0] == pytest.approx(5 * 2 / (2 * 3))
    assert found.phi[0, 1] == pytest.approx((5 * 2 - 2 * 3) / math.sqrt(2 * 3 * 3 * 2))
    first, second = found.pair_lines()
    assert (first.a, first.b, first.images_a, first.images_both, first.p_b_given_a) == ("train", "rail", 2, 2, 1)
    assert (second.a, second.b, second.p_b_given_a) == ("rail", "train", 0.6667)
    train, rail, boat = found.class_lines()
    assert (train.images, train.share, train.alone, train.alone_share) == (2, 0.4, 0, 0)
    assert (train.companion, train.companion_share) == ("rail", 1)
    assert (rail.companion, rail.alone_share) == ("train", 0.3333)
    assert (boat.companion, boat.companion_share) == ("", 0)


@pytest.mark.parametrize("seed", range(3))
def test_formulas_equal_numpy_on_the_table_of_tags(seed: int) -> None:
    tags = random_tags(seed)
    found = cooccurrence(tags, NAMES)
    table = np.array([[c in t for c in range(3)] for t in tags], dtype=float)
    np.testing.assert_allclose(found.phi, np.corrcoef(table.T), atol=1e-12)
    for a in range(3):
        for b in range(3):
            both = (table[:, a] * table[:, b]).mean()
            assert found.lift[a, b] == pytest.approx(both / (table[:, a].mean() * table[:, b].mean()))
            assert found.conditional[a, b] == pytest.approx(table[table[:, a] == 1, b].mean())
    assert found.alone.tolist() == [sum(t == (c,) for t in tags) for c in range(3)]


def test_the_order_of_images_and_a_tag_named_twice_change_nothing() -> None:
    tags = random_tags(5)
    one, other = cooccurrence(tags, NAMES), cooccurrence([(*t, *t) for t in reversed(tags)], NAMES)
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.pair_lines() == other.pair_lines()
    assert remarks(one) == remarks(other)


def test_classes_that_are_never_or_hardly_ever_alone() -> None:
    never = cooccurrence([(0, 1)] * 20 + [(1,)] * 30 + [(2,)] * 25, NAMES)
    (remark,) = remarks(never)
    assert remark.classes == ("train", "rail")
    assert remark.text == "'train' is never seen without 'rail': all 20 images"
    assert remark.remedy == "Tags alone hardly distinguish the two: add images of 'train' without 'rail'"
    hardly = cooccurrence([(0, 1)] * 18 + [(0,)] * 2 + [(1,)] * 30 + [(2,)] * 25, NAMES)
    assert remarks(hardly)[0].text == "'train' is hardly ever seen without 'rail': 18 of the 20 images"
    assert kinds(cooccurrence([(0, 1)] * 17 + [(0,)] * 3 + [(1,)] * 30 + [(2,)] * 25, NAMES)) == []


def test_fewer_than_ten_images_of_a_class_say_nothing_of_what_comes_with_it() -> None:
    assert kinds(cooccurrence([(0, 1)] * 9 + [(1,)] * 30 + [(2,)] * 25, NAMES)) == ["few"]
    assert kinds(cooccurrence([(0, 1)] * 10 + [(1,)] * 30 + [(2,)] * 25, NAMES)) == ["together", "few"]
    assert kinds(cooccurrence([(0,)] * 9, NAMES[:1])) == ["few"]
    assert kinds(cooccurrence([(0,)] * 10, NAMES[:1])) == ["everywhere", "few"]


def test_a_class_that_is_never_alone_though_it_has_several_companions() -> None:
    tags = [(0, 1)] * 20 + [(0, 2)] * 12 + [(1,)] * 20 + [(2,)] * 20
    (remark,) = remarks(cooccurrence(tags, NAMES))
    assert (remark.kind, remark.classes) == ("never-alone", ("train",))
    assert remark.text == (
        "'train' is never seen alone: 32 of its 32 images show another class too, most often 'rail' (62%)"
    )
    (once,) = remarks(cooccurrence([*tags, (0,)], NAMES))
    assert once.text.startswith("'train' is hardly ever seen alone: 32 of its 33 images")
    assert kinds(cooccurrence([*tags, *[(0,)] * 3], NAMES)) == ["never-alone"]
    assert kinds(cooccurrence([*tags, *[(0,)] * 4], NAMES)) == []  # 4 of 36 are more than 10 %


def test_other_remarks() -> None:
    found = cooccurrence([(0,)] * 400 + [(1,)] * 5, NAMES)
    assert kinds(found) == ["missing", "few", "imbalance"]
    texts = [remark.text for remark in remarks(found)]
    assert texts[0] == "1 of 3 classes have no image: boat"
    assert texts[1] == "fewer than 20 images: rail (5)"
    assert texts[2] == "'train' has 400 images, 'rail' 5: 80 times as many"
    everywhere = cooccurrence([(0, 1)] * 40 + [(0, 2)] * 40, NAMES)
    assert kinds(everywhere) == ["everywhere"]  # and not 'rail never without train' too
    assert remarks(everywhere)[0].text == "all 80 images are tagged 'train'"
    empty = cooccurrence([()] * 20 + [(0,)] * 30 + [(1,)] * 25 + [(2,)] * 25, NAMES)
    assert kinds(empty) == ["untagged"]
    assert remarks(empty)[0].text.startswith("20 of 100 images have no tag and are learnt as images of nothing")


def test_undefined_ratios_are_nan() -> None:
    found = cooccurrence([(0,), (0,)], NAMES)
    assert np.isnan(found.conditional[1]).all()
    assert math.isnan(found.lift[0, 1])
    assert math.isnan(found.phi[0, 0])  # a tag of every image is correlated with nothing
    assert math.isnan(found.class_lines()[2].alone_share)


def test_wrong_tags_are_refused() -> None:
    with refused(DataError, "no image", "tags could be counted"):
        cooccurrence([], NAMES)
    with pytest.raises(DataError, match=r"tags hold column 3; expected 0\.\.2"):
        cooccurrence([(0,), (3,)], NAMES)
