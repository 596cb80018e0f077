"""Photos for the tests of prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.segmentation.predict_drawn import save
from tests.segmentation.toy_net import colours


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "sub/a.png", "sub/b.png")):
        save(tmp_path / "photos" / name, colours(5 + i, 7, seed=i))
    return tmp_path / "photos"
