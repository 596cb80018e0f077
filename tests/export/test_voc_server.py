from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.palette import voc_palette
from tag2mask.data.readers.voc import VOC_CLASSES
from tag2mask.export import voc_server
from tag2mask.export.formats import Job, LabelledImage
from tag2mask.export.voc_server import write
from tests.helpers.refused import refused

LABELS = {"2008_000006": np.array([[0, 20, 1]], np.uint8), "2008_000011": np.array([[7], [7]], np.uint8)}


def job(out: Path, classes: tuple[str, ...] = VOC_CLASSES, unsure: bool = False) -> Job:
    labels = {**LABELS, "2008_000012": np.array([[3, 255]], np.uint8)} if unsure else LABELS
    images = [LabelledImage(i, f"{i}.jpg", None, values, ()) for i, values in labels.items()]
    return Job(out, out, "test", classes, images, "polygons", False)


def test_the_archive_has_the_servers_names_and_indices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc_server, "N_TEST", 2)
    write(job(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["results.zip"]
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert archive.namelist() == [f"results/VOC2012/Segmentation/comp6_test_cls/{i}.png" for i in LABELS]
        for name, expected in zip(archive.namelist(), LABELS.values(), strict=True):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.mode == "P"
                assert (image.getpalette() or [])[:63] == list(voc_palette()[:63])
                assert np.array_equal(np.asarray(image), expected)
    first = (tmp_path / "results.zip").read_bytes()
    write(job(tmp_path))
    assert (tmp_path / "results.zip").read_bytes() == first


def test_a_part_of_the_test_list_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tag2mask"), "propagate", True)
    write(job(tmp_path))
    assert "2 masks, but VOC 2012's test list has 1456: the server wants all" in caplog.text


@pytest.mark.parametrize("classes", [("cat", "dog"), VOC_CLASSES[::-1], (*VOC_CLASSES, "zebra")])
def test_other_classes_are_refused(tmp_path: Path, classes: tuple[str, ...]) -> None:
    with refused(DataError, f"the {len(classes)} classes", "VOC's 20"):
        write(job(tmp_path, classes))
    assert list(tmp_path.iterdir()) == []


def test_ignored_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask of '2008_000012' has ignored pixels \(255\)"):
        write(job(tmp_path, unsure=True))
    assert list(tmp_path.iterdir()) == []
