"""Patterns for file names: what they give, and one that does not come to an end."""

from pathlib import Path

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.readers import name_pattern
from tag2mask.data.readers.name_pattern import tags_in_names
from tag2mask.data.registry import data_settings, load_dataset
from tests.helpers.draw import save_image
from tests.helpers.refused import refused


def test_each_name_gives_its_group() -> None:
    names = ("cat+dog_1", "_2", "café_3", "x-4", "\udcff_5")
    assert tags_in_names(r"(?P<tags>[a-zé+]+)?_\d", names) == ("cat+dog", "", "café", None, None)
    assert tags_in_names("(?P<tags>a)", ()) == ()


def test_a_pattern_without_end_is_stopped_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_pattern, "LIMIT", 0.3)
    for name in ("ab_1", "a" * 60 + "!"):
        save_image(tmp_path / f"{name}.png", np.zeros((4, 4, 3), dtype=np.uint8))
    with refused(DataError, "data.pattern = (?P<tags>(a+)+)b?", "no end after 0.3 s", f"'{60 * 'a'}!'"):
        load_dataset("folder", tmp_path, "all", pattern=r"(?P<tags>(a+)+)b?(_\d)?")


@pytest.mark.parametrize("pattern", ["(" * 5000 + ")" * 5000, "(?P<tags>a){99999999999999}"])
def test_a_pattern_that_python_cannot_take_is_a_wrong_setting(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.pattern.*not a regular expression"):
        data_settings("folder", {"pattern": pattern})
