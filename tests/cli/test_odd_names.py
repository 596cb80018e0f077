"""Names that are not UTF-8 on the command line: one clear text with escapes, no traceback."""

import os
from pathlib import Path

import pytest

from tests.helpers.draw import draw_folder
from tests.helpers.tiny import tag2mask


@pytest.mark.slow
def test_doctor_and_run_name_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    draw_folder(tmp_path / "photos", n=2)
    photo = tmp_path / "photos/images/photo 00.png"
    try:
        photo.rename(photo.with_name(os.fsdecode(b"caf\x82.png")))
    except OSError:
        pytest.skip("the file system takes names in UTF-8 alone")
    for words, status in ((["doctor", "photos"], 1), (["run", "own-data", "data.root=photos", "--out", "o"], 2)):
        done = tag2mask(*words, cwd=tmp_path)
        text = done.stdout + done.stderr
        assert done.returncode == status, text
        assert "Traceback" not in text
        assert r"caf\x82.png is not UTF-8: rename it" in text
