"""What a later stage needs of the data is looked at before the first training; the doctor's warnings are said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tag2mask.api import run
from tag2mask.backbones.files import load_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError, DataError, StageError, Tag2MaskError, WeightsError
from tag2mask.core.palette import write_labels
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor import first_look
from tag2mask.data.doctor.checks import Inspection
from tag2mask.data.doctor.files import Pixels
from tag2mask.data.registry import load_dataset
from tag2mask.methods.cam.kinds import ClassifierSettings
from tag2mask.methods.registry import stage_kind
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.preflight import _warn, preflight
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import draw_folder, save_image, write
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of, tiny_overrides


def start(root: Path, *overrides: str, only: Sequence[str] = (), recipe: str = "own-data") -> RunResult:
    return run(recipe, *tiny_overrides(recipe, root), *overrides, out=root.parent / "runs/run", only=only)


def refusal(root: Path, *overrides: str, kind: type[Tag2MaskError] = DataError) -> str:
    """The text with which a run is refused before it has made anything."""
    with pytest.raises(kind) as caught:
        start(root, *overrides)
    made = [p.name for p in (root.parent / "runs").rglob("*") if p.is_file()]
    assert set(made) <= {"lock"}
    return str(caught.value)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "photos", n=12)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("override", "texts"),
    [
        ("data.infer=trian", ["data.infer = trian: unknown split 'trian'; did you mean 'train'?"]),
        ("data.val=vol", ["data.val = vol: unknown split 'vol'; did you mean 'val'?"]),
        ("data.train=train@missing.txt", ["data.train = train@missing.txt: cannot read missing.txt"]),
        ("predictions.split=tset", ["predictions.split = tset: unknown split 'tset'"]),
        ("amn-lpcam.split=trai", ["amn-lpcam.split = trai: unknown split 'trai'; did you mean 'train'?"]),
    ],
)
def test_wrong_names_of_splits_are_reported_first(photos: Path, override: str, texts: list[str]) -> None:
    text = refusal(photos, override)
    assert all(t in text for t in texts), text


def test_images_that_one_stage_wants_and_another_does_not_make(photos: Path) -> None:
    text = refusal(photos, "data.infer=val", kind=StageError)
    assert "reads 'lpcam-refined' of the images of split 'train'" in text
    assert "made for split 'val', which lacks" in text
    assert "data.infer" in text


def test_a_photo_that_only_a_later_stage_reads_is_decoded_first(photos: Path) -> None:
    write(photos / "splits/train.txt", "".join(f"photo {n:02d}\n" for n in range(9)))
    write(photos / "splits/val.txt", "photo 09\n")
    path = photos / "images/photo 11.png"
    path.write_bytes(path.read_bytes()[:-2000])  # its header is whole
    text = refusal(photos)
    assert "photo 11.png" in text
    assert "truncated" in text
    assert "tag2mask doctor folder" in text


def test_headers_and_mask_sizes_of_all_are_looked_at_however_many(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_look, "inspect_image", lambda *_: pytest.fail("decoded although headers are wrong"))
    write_labels(photos / "masks/photo 03.png", np.zeros((5, 5), np.uint8))
    (photos / "images/photo 07.png").write_text("none")
    text = refusal(photos)
    assert "2 problems in the data" in text
    assert "photo 03.png is 5 x 5 pixels, its image" in text
    assert "photo 07.png" in text


class Photos(Dataset):
    """Image files without a truth."""

    name, split, classes, has_truth = "photos", "all", ("a",), False

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def image(self, sample: Sample) -> None:  # type: ignore[override]
        raise AssertionError("decoded")

    def truth(self, sample: Sample) -> None:
        return None


def test_as_many_are_decoded_as_the_time_allows_the_later_ones_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        save_image(tmp_path / f"{number}.png", np.full((2, 2, 3), number, np.uint8))
    dataset = Photos([Sample(str(n), (), tmp_path / f"{n}.png") for n in range(30)])
    soon = {(s.id, s.image) for s in dataset.samples[:20]}
    decoded: list[str] = []

    def look(_: Dataset, sample: Sample) -> Inspection:
        decoded.append(sample.id)
        return Inspection(sample, (2, 2), Pixels(sample.id, frozenset()), ())

    monkeypatch.setattr(first_look, "inspect_image", look)
    monkeypatch.setattr(first_look, "SECONDS", 0.0)
    monkeypatch.setattr(first_look, "AT_LEAST", 12)
    monkeypatch.setattr(first_look, "_THREADS", 1)
    orders = []
    for _ in range(2):
        decoded.clear()
        with caplog.at_level(logging.INFO, logger="tag2mask"):
            looks = first_look.first_look([dataset], soon, {}, quiet=True)
        assert len(looks) == 30
        assert sum(seen.shown is not None for seen in looks.values()) == 12
        assert "of 30 images the headers were read and 12 decoded" in caplog.text
        orders.append(decoded[:12])
    assert orders[0] == orders[1]
    assert {int(name) for name in orders[0][:10]} == set(range(20, 30))


def test_weights_and_networks_of_later_stages_are_tried_first(photos: Path) -> None:
    page = write(photos.parent / "page.pth", "<html>not found</html>")
    text = refusal(photos, f"amn-lpcam.backbone.weights={page}", kind=WeightsError)
    assert text.startswith("stage 'amn-lpcam': ")
    assert "page.pth" in text
    text = refusal(photos, "amn-lpcam-irn.backbone.name=test_vit", kind=ConfigError)
    assert text.startswith("stage 'amn-lpcam-irn': ")
    text = refusal(photos, "lpcam.drop=[squares foreground:1]", kind=ConfigError)
    assert "stage 'lpcam': drop: unknown class 'squares'; did you mean 'square'?" in text
    text = refusal(photos, "segmenter.train.precision=float16", kind=ConfigError)
    assert "stage 'segmenter': train.precision = 'float16' needs a GPU" in text


def test_few_masks_are_counted_first(photos: Path) -> None:
    for path in sorted((photos / "masks").iterdir())[1:]:
        path.unlink()
    with refused(DataError, "2 masks", "1 images of split 'all'"):
        start(
            photos, "stages.few={kind: few-masks, n: 2, reads: {maps: cam}, scores: raw}",
            "stages.cam-seeds.reads={maps: cam, threshold: few}", "allow_supervision=[tags,pixel-masks:threshold(2)]",
        )  # fmt: skip


def test_warnings_come_before_the_first_stage_and_not_for_a_finished_run(
    photos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that goes on says them again without reading the files again."""
    table = photos / "tags.csv"
    table.write_text(table.read_text().replace("photo 00.png,disc", 'photo 00.png,"disc,square"'))
    caplog.set_level(logging.INFO, logger="tag2mask")
    only = ["average-precision"]
    done = start(photos, only=only)
    lines = [r.getMessage() for r in caplog.records]
    warned = next(i for i, line in enumerate(lines) if "look like several tags" in line)
    assert caplog.records[warned].levelno == logging.WARNING
    assert "data.separator=','" in lines[warned]
    assert warned < next(i for i, line in enumerate(lines) if line.startswith("classifier"))

    caplog.clear()
    with monkeypatch.context() as forbidden:
        forbidden.setattr("tag2mask.pipeline.preflight.first_look", lambda *_: pytest.fail("looked again"))
        before = files_of(done.path)
        assert files_of(start(photos, only=only).path) == before
    assert "look like several tags" not in caplog.text

    (done.path / "average-precision/manifest.json").unlink()
    for name in ("header_at", "inspect_image"):
        monkeypatch.setattr(first_look, name, lambda _, sample: pytest.fail(f"{sample.id} was read again"))
    start(photos, only=only)
    assert "look like several tags" in caplog.text


def test_what_every_class_may_bring_about_is_reported_for_a_few(caplog: pytest.LogCaptureFixture) -> None:
    several = [Finding("tags", "warning", ("a",), f"{n} images show another class", "Correct it") for n in range(9)]
    _warn([*several, Finding("name", "warning", ("b",), "two names", "One")], make_plan(load_recipe("demo")))
    *told, name, last = caplog.messages
    assert [text.partition("a: ")[2][0] for text in told] == [*"01234"]
    assert "two names" in name
    assert last.startswith("and 4 more of the same kinds: tag2mask doctor parts")


def test_a_file_that_has_changed_is_looked_at_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = ["average-precision"]
    start(photos, only=only)
    path = photos / "images/photo 05.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="photo 05.png"):
        start(photos, only=only)


def test_a_class_in_every_image_that_trains_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = tmp_path / "photos"
    draw_folder(photos, n=4, masks=False)
    write(photos / "tags.csv", "image,tags\n" + "".join(f"photo {n:02d},disc\n" for n in range(3)) + "photo 03,\n")
    kind, dataset = stage_kind("classifier"), load_dataset("folder", photos, "all")
    backbone = BackboneSettings(name="test_efficientnet", weights="none")
    assert kind.validate_data(ClassifierSettings(backbone=backbone), dataset) == ()
    start(photos, "classifier.negatives=drop", "data.val=null", "data.train=all", only=["classifier"])
    (line,) = [r.getMessage() for r in caplog.records if "cannot learn" in r.getMessage()]
    assert "stage 'classifier': all 3 images that train are tagged 'disc'" in line
    assert "negatives=keep of this stage take the 1 images without any tag" in line
    write(photos / "tags.csv", "image,tags\n" + "".join(f"photo {n:02d},disc\n" for n in range(4)))
    (text,) = kind.validate_data(ClassifierSettings(backbone=backbone), load_dataset("folder", photos, "all"))
    assert "an empty tag cell, or a sub-folder named background" in text


def test_parts_that_processes_cannot_share_are_reported_for_every_stage(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_recipe("own-data", [*tiny_overrides("own-data", photos), "amn-lpcam-irn.train.accumulate=1"]))
    monkeypatch.setattr("tag2mask.pipeline.preflight.world_size", lambda: 2)
    with refused(ConfigError, "'amn-lpcam-irn'", "train.accumulate = 1", "2 processes"):
        preflight(plan)


def test_a_run_inside_the_class_folders_makes_no_class(tmp_path: Path) -> None:
    draw_folder(tmp_path / "photos", n=9, layout="subfolders", masks=False)
    words = [
        w for w in tiny_overrides("own-data", tmp_path / "photos") if not w.startswith(("data.tags", "data.images"))
    ]
    for _ in range(2):
        done = run("own-data", *words, out=tmp_path / "photos/runs/first", only=["classifier"])
        weights = done.path / "classifier/weights.safetensors"
        assert load_network(weights)[1] == ("disc", "square", "stripe")
    assert len(list((tmp_path / "photos/runs/.store").glob("classifier-*"))) == 1
