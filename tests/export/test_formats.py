"""Every format of the registry: masks that go out and come back by the format's own rule are the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError
from tag2mask.core.types import IGNORE
from tag2mask.export import formats as registry
from tag2mask.export.formats import FORMATS, ExportFormat, Job, Outline, register_format, writer
from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import CLASSES, Labels, holed, mask_folder, solid
from tests.export.readers import CERTAIN, READERS, Sizes
from tests.helpers.refused import refused

KINDS: list[tuple[str, Outline]] = [
    (name, form)
    for name in FORMATS
    for form in (("polygons", "rle") if writer(name).ABOUT.run_lengths else ("polygons",))
]


def sent(
    tmp_path: Path, name: str, form: Outline, masks: dict[str, Labels]
) -> tuple[dict[str, Labels], dict[str, Labels]]:
    """Masks as they should come back, and as they do."""
    if name in CERTAIN:
        masks = {k: v for k, v in masks.items() if not (v == IGNORE).any()}
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, name, tmp_path / "out", images=root / "photos", outline=form)
    sizes: Sizes = {k: (v.shape[0], v.shape[1]) for k, v in masks.items()}
    found = READERS[name](tmp_path / "out", CLASSES, sizes)
    keeps_unsure = name == "palette"
    return {k: v if keeps_unsure else np.where(v == IGNORE, 0, v).astype(np.uint8) for k, v in masks.items()}, found


def test_every_format_has_a_reader_here() -> None:
    assert set(READERS) == set(FORMATS), "tests/export/readers.py needs a reader for a new format, and nothing else"


@pytest.mark.parametrize(("name", "form"), KINDS)
def test_masks_without_holes_come_back(tmp_path: Path, name: str, form: Outline) -> None:
    expected, found = sent(tmp_path, name, form, solid())
    assert found.keys() == expected.keys()
    for key, labels in expected.items():
        for label in np.unique(labels[labels > 0]):
            mine, back = labels == label, found[key] == label
            assert (mine & back).sum() / (mine | back).sum() >= 0.99, (key, label)
        assert np.array_equal(found[key], labels), key  # more than was asked for: pixel by pixel


@pytest.mark.parametrize(("name", "form"), KINDS)
def test_masks_with_holes_come_back_too(tmp_path: Path, name: str, form: Outline) -> None:
    expected, found = sent(tmp_path, name, form, holed())
    assert found.keys() == expected.keys()
    for key, labels in expected.items():
        assert np.array_equal(found[key], labels), key


@pytest.mark.parametrize(("name", "form"), KINDS)
def test_the_same_masks_give_the_same_bytes(tmp_path: Path, name: str, form: Outline) -> None:
    root = mask_folder(tmp_path / "in", {k: v for k, v in solid().items() if k != "unsure"})
    for out in ("one", "two"):
        export_masks(root, name, tmp_path / out, images=root / "photos", outline=form)
    files = [p.relative_to(tmp_path / "one") for p in sorted((tmp_path / "one").rglob("*")) if p.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_format_is_added_by_one_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("areas")

    def write(job: Job) -> None:
        lines = [f"{i.id} {job.classes[n.column]} {n.area}\n" for i in job.images for n in i.instances]
        (job.out / "areas.txt").write_text("".join(lines))

    module.ABOUT = ExportFormat(polygons=False, run_lengths=False, photos=".", copies=False)  # type: ignore[attr-defined]
    module.write = write  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "areas", module)
    monkeypatch.setattr(registry, "FORMATS", dict(FORMATS))
    register_format("areas", "areas")
    register_format("areas", "areas")
    root = mask_folder(tmp_path / "in", {"a": np.array([[1, 0, 2], [1, 0, 2]], np.uint8)})
    export_masks(root, "areas", tmp_path / "out")
    assert (tmp_path / "out" / "areas.txt").read_text() == "a aeroplane 2\na bicycle 2\n"
    with refused(ConfigError, "'areas' is areas already", "choose another name"):
        register_format("areas", "elsewhere")


def test_an_unknown_format_gives_the_nearest() -> None:
    with refused(ConfigError, "'labelm'", "did you mean 'labelme'?", "Known: coco, cvat"):
        writer("labelm")
