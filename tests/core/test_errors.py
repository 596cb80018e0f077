"""The text for an unknown name."""

from tag2mask.core.errors import unknown


def test_the_nearest_name_comes_first_and_numbers_are_in_order() -> None:
    names = {"A10", "A2", "L1", "cam", "A1"}
    assert unknown("experiment", "A3", names).startswith("unknown experiment 'A3'; did you mean 'A")
    assert unknown("experiment", "A3", names).endswith("? Known: A1, A2, A10, L1, cam")
    assert unknown("experiment", "zzzz", names) == "unknown experiment 'zzzz'. Known: A1, A2, A10, L1, cam"
    assert unknown("tag", "x", ["b", "a", "²"]) == "unknown tag 'x'. Known: a, b, ²"
