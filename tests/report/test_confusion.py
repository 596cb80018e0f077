"""A confusion matrix as shares of the ground truth, with the largest confusions by name."""

import numpy as np

from tag2mask.report.confusion import WIDEST, view

LABELS = ("background", "cat", "dog")


def test_cells_are_percent_of_the_row() -> None:
    found = view(np.array([[90, 10, 0], [3, 5, 2], [0, 0, 0]]), LABELS)
    assert [[c.text for c in row] for row in found.rows] == [["90.0", "10.0", "·"], ["30.0", "50.0", "20.0"], ["–"] * 3]
    assert [[c.right for c in row] for row in found.rows] == np.eye(3, dtype=bool).tolist()
    assert [[c.shade for c in row] for row in found.rows] == [[4, 1, 0], [2, 2, 1], [0, 0, 0]]


def test_the_largest_confusions_are_named_largest_first() -> None:
    found = view(np.array([[90, 10, 0], [3, 5, 2], [0, 0, 0]]), LABELS)
    assert [(c.truth, c.taken, c.share) for c in found.largest] == [
        ("cat", "background", 30.0), ("cat", "dog", 20.0), ("background", "cat", 10.0),
    ]  # fmt: skip


def test_a_matrix_too_wide_for_a_page_is_a_list() -> None:
    n = WIDEST + 1
    found = view(np.eye(n, dtype=np.int64) * 9 + 1, [str(i) for i in range(n)])
    assert found.rows == ()
    assert len(found.largest) == 25
    assert view(np.eye(WIDEST, dtype=np.int64), [str(i) for i in range(WIDEST)]).rows
