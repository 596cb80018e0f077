"""Thin things: pixel models as a stage, what they make of label images, and a CRF whose reach follows the things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.settings import key_values, validate
from tag2mask.core.files import read_json
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.background import CONSTANT
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.inference.maps_file import write_maps
from tag2mask.label_images.cutting import PhotoMaps, narrowest, refine_seeds
from tag2mask.label_images.kinds import CRFSettings, CutSettings, RefinedSeedsSettings, SeedCRFSettings
from tag2mask.label_images.pixel_model import EVIDENCE, ClassEvidence
from tag2mask.label_images.thin import overlaid, with_thin
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.registry import stage_kind
from tag2mask.methods.stage_kinds import Makes
from tag2mask.refine.pixels.model import PixelModels
from tests.training.toy import engine

SIDE = 64
LINE, DISC, DUST = 0, 1, 2
TAGS = [(LINE,), (DISC,), (LINE, DISC), (LINE,), (), (LINE,), (DISC,), (LINE,), (DUST,), (LINE, DISC)]


class Scenes(Dataset):
    """Dark lines two pixels wide, bright discs of 40 pixels, and dust that is nowhere, on a rough ground."""

    name, split = "scenes", "train"
    classes = ("line", "disc", "dust")

    def __init__(self) -> None:
        self.samples = tuple(Sample(f"{i:02d}", tags) for i, tags in enumerate(TAGS))

    def _drawn(self, sample: Sample) -> tuple[NDArray[np.uint8], Labels]:
        rng = np.random.default_rng(int(sample.id))
        image, truth = 140 + rng.normal(0, 20, (SIDE, SIDE, 1)).repeat(3, axis=2), np.zeros((SIDE, SIDE), np.uint8)
        y, x = np.mgrid[:SIDE, :SIDE]
        if DISC in sample.tags:
            truth[(y - 40) ** 2 + (x - 40) ** 2 < 20**2] = DISC + 1
        if LINE in sample.tags:
            truth[abs(y - 8 - int(sample.id) % 4 - x // 9) < 1.5] = LINE + 1
        image[truth == DISC + 1] += 80
        image[truth == LINE + 1] -= 55
        return np.clip(image, 0, 255).astype(np.uint8), truth

    def image(self, sample: Sample) -> Image.Image:
        return Image.fromarray(self._drawn(sample)[0])

    has_truth = True

    def truth(self, sample: Sample) -> Labels:
        return self._drawn(sample)[1]

    def maps(self, sample: Sample) -> ActivationMaps:
        """What a network of stride 8 shows: each class, blurred; nothing of dust."""
        truth, planes = self.truth(sample), []
        for column in sample.tags:
            mine = ndimage.uniform_filter((truth == column + 1).astype(np.float32), 16)
            cells = mine.reshape(SIDE // 4, 4, SIDE // 4, 4).mean((1, 3))
            planes.append(cells / max(cells.max(), 1e-6) if column != DUST else 0 * cells)
        stacked = np.stack(planes) if planes else np.zeros((0, SIDE // 4, SIDE // 4))
        return ActivationMaps(sample.tags, torch.from_numpy(stacked.astype(np.float16)).float())


def context(kind: str, reads: dict[str, Artefact], out: Path, **values: Any) -> StageContext[Any]:
    out.mkdir(exist_ok=True)
    found = validate(stage_kind(kind).settings, values, kind)
    return StageContext(stage_kind(kind), kind, found, reads, Scenes(), out, 0, engine())


class Seeing:
    """A classifier of the scenes: it counts dark and bright pixels, of a line the darkest alone."""

    device = torch.device("cpu")
    classes = Scenes.classes

    def size(self, image: Image.Image) -> list[int]:
        return [image.height, image.width]

    def tensor(self, image: Image.Image, size: Sequence[int]) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - 0.55

    def net(self, batch: torch.Tensor) -> torch.Tensor:
        grey = batch.mean(1)
        shares = [(grey < -0.2).float().mean((1, 2)), (grey > 0.2).float().mean((1, 2)), grey.mean((1, 2))]
        return 8 * torch.stack(shares, dim=1)


@pytest.fixture(scope="module", autouse=True)
def _classifier() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tag2mask.label_images.pixel_model.load_classifier", lambda *_: Seeing())
        yield


def artefact(name: str, path: Path) -> Artefact:
    return Artefact(name, path, "key", lambda _dataset, sample: f"key of {sample.id}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with maps, and the pixel models that were learned from them."""
    at, scenes = tmp_path_factory.mktemp("thin"), Scenes()
    for sample in scenes.samples:
        write_maps(at / "cam" / "maps" / f"{sample.id}.npz", scenes.maps(sample), (SIDE, SIDE), f"key of {sample.id}")
    reads = {"maps": artefact("cam", at / "cam"), "classifier": artefact("classifier", at)}
    stage_kind("pixel-model").load()(context("pixel-model", reads, at / "pixels", threshold=0.4, rounds=2))
    return at


def labels(folder: Path, kind: str, sample: Sample, *, pixels: bool, **values: Any) -> LabelImage:
    reads = {"maps": artefact("cam", folder / "cam")}
    if pixels:
        reads["pixels"] = artefact("pixels", folder / "pixels")
    program = stage_kind(kind).load()(context(kind, reads, folder / "out", **values))
    assert isinstance(program, ImageProgram)
    (found,) = program.compute([program.prepare(sample)])
    return cast("LabelImage", found)


def iou(found: LabelImage, truth: Labels, column: int) -> float:
    mine, drawn = found == column + 1, truth == column + 1
    return float((mine & drawn).sum() / (mine | drawn).sum())


def test_the_kind_says_what_it_reads_and_makes() -> None:
    kind = stage_kind("pixel-model")
    assert (kind.makes, kind.reads, kind.may_read) == (
        Makes.WEIGHTS,
        {"maps": Makes.MAPS, "classifier": Makes.WEIGHTS},
        {"threshold": Makes.THRESHOLD},
    )
    for name in ("refined-seeds", "seed-crf", "pseudo-masks"):
        assert stage_kind(name).may_read["pixels"] is Makes.WEIGHTS


def test_only_thin_classes_get_a_model_and_each_has_its_reason(folder: Path) -> None:
    found = read_json(folder / "pixels" / EVIDENCE)
    assert found["line"]["reason"] == ""
    assert found["line"]["images"] == sum(LINE in tags for tags in TAGS)
    line, disc = found["line"], found["disc"]
    assert line["fall"] > 0.5
    assert line["area"] < 0.3
    assert ClassEvidence(**line).worth > 0.5
    assert disc["kept"] > 0.75
    assert "more than kept = 0.75: they are solid" in disc["reason"]
    assert disc["area"] is None, "nothing was learned of it"
    assert (found["dust"]["images"], found["dust"]["width"]) == (0, 0)
    assert (folder / "pixels" / WEIGHTS).stat().st_size < 20_000


def test_of_a_solid_class_the_pixels_that_are_found_are_worth_little(folder: Path, tmp_path: Path) -> None:
    """Asked all the same: where some of a disc is painted over, the rest shows it."""
    reads = {"maps": artefact("cam", folder / "cam"), "classifier": artefact("classifier", folder)}
    stage_kind("pixel-model").load()(context("pixel-model", reads, tmp_path, threshold=0.4, rounds=2, kept=99))
    disc = ClassEvidence(**read_json(tmp_path / EVIDENCE)["disc"])
    assert disc.fall is not None
    assert disc.worth < 0.2
    assert f"worth {disc.worth:.2f}, less than 0.2" in disc.reason


@pytest.mark.parametrize(
    ("kept", "area", "fall", "expected"),
    [
        (0.1, 0.15, 0.7, 2.94),
        (0.5, 0.2, 0.2, 0.1),
        (1.2, 0.1, 0.9, 0),
        (0.1, 0.1, -0.5, 0),
        (0.1, 0.0, 0.5, 0),
        (0.1, None, None, 0),
    ],
)
def test_what_found_pixels_are_worth(kept: float, area: float | None, fall: float | None, expected: float) -> None:
    """Much of the score, more than their share of the area, in regions that their colours do not hold together."""
    assert ClassEvidence(9, 9.0, kept, area, fall).worth == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["pseudo-masks", "seed-crf", "refined-seeds"])
def test_lines_become_thin_and_discs_stay_as_they_were(folder: Path, kind: str) -> None:
    scenes = Scenes()
    values: dict[str, Any] = {"foreground": 0.4, "background": 0.3} if kind == "refined-seeds" else {"threshold": 0.4}
    line, both, disc = scenes.samples[3], scenes.samples[2], scenes.samples[1]
    for sample in (line, both):
        truth = scenes.truth(sample)
        before, after = (labels(folder, kind, sample, pixels=one, **values) for one in (False, True))
        assert iou(after, truth, LINE) > 0.3
        if kind == "pseudo-masks":  # a CRF of far reach finds lines that stand out as well as these do, too
            assert iou(before, truth, LINE) < 0.2
        if DISC in sample.tags:
            assert abs(iou(after, truth, DISC) - iou(before, truth, DISC)) < 0.01
    before, after = (labels(folder, kind, disc, pixels=one, **values) for one in (False, True))
    assert (before == after).all()


def test_labels_of_thin_classes_are_laid_over_the_others() -> None:
    """Columns 0 and 2 are thin: a pixel needs the first cut and 0.5; with two cuts the second and 0.2 make it 255."""
    given = np.array([[1, 0, 2, 2, 0, 0, 3]], np.uint8)
    high = np.array([[1, 1, 1, 2, 0, 3, 0]], np.uint8)
    low = np.array([[1, 1, 1, 2, 1, 3, 3]], np.uint8)
    first = np.array([[0.4, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9]], np.float32)
    third = np.array([[0, 0, 0, 0, 0, 0.51, 0.1]], np.float32)
    likely = {0: first, 2: third}
    assert overlaid(given, [high], likely).tolist() == [[0, 1, 1, 2, 0, 3, 0]]
    assert overlaid(given, [high, low], likely).tolist() == [[255, 1, 1, 2, 255, 3, 0]]
    assert given.tolist() == [[1, 0, 2, 2, 0, 0, 3]], "what is given stays"


def test_an_image_of_thin_classes_alone_is_spared_the_crf() -> None:
    class Everywhere(PixelModels):
        def probabilities(self, image: NDArray[np.uint8], columns: Sequence[int]) -> dict[int, NDArray[np.float32]]:
            return {c: np.ones(image.shape[:2], np.float32) for c in columns if c in self.columns}

    models = Everywhere(("a", "b"), {})
    models.columns = (1,)
    image, maps = np.zeros((2, 2, 3), np.uint8), np.array([[[1, 0], [0, 1]]], np.float32)
    photos = [PhotoMaps(image, (c,), maps, (0.5,)) for c in (1, 0)]
    photos += [PhotoMaps(image, (), maps[:0], (0.5,))]
    seen: list[tuple[int, ...]] = []

    def make(given: Sequence[PhotoMaps]) -> list[LabelImage]:
        seen.extend(photo.classes for photo in given)
        return [np.full((2, 2), 7, np.uint8) for _ in given]

    thin, other, none = with_thin(photos, make, models, CONSTANT)
    assert seen == [(0,)]
    assert thin.tolist() == [[2, 0], [0, 2]]
    assert (other == 7).all()
    assert (none == 0).all()


def test_a_crf_that_follows_the_things_keeps_lines_and_changes_no_disc() -> None:
    scenes = Scenes()
    for number, column in ((0, LINE), (1, DISC)):
        sample = scenes.samples[number]
        image, truth = np.array(scenes.image(sample)), scenes.truth(sample)
        maps = (truth == column + 1).astype(np.float32)[None]
        shown = PhotoMaps(image, (column,), maps, (0.5, 0.4))
        (before,) = refine_seeds([shown])
        (after,) = refine_seeds([shown], CRFSettings(full_width=25))
        if column == LINE:
            assert iou(after, truth, LINE) > iou(before, truth, LINE) + 0.15
        else:
            assert (before == after).all()


def test_images_with_kernels_of_their_own_stay_in_order() -> None:
    scenes = Scenes()
    shown = []
    for sample in (scenes.samples[0], scenes.samples[1], scenes.samples[3]):
        maps = (scenes.truth(sample) == sample.tags[0] + 1).astype(np.float32)[None]
        shown.append(PhotoMaps(np.array(scenes.image(sample)), sample.tags, maps, (0.5, 0.4)))
    crf = CRFSettings(full_width=25)
    for one, alone in zip(refine_seeds(shown, crf), (refine_seeds([s], crf)[0] for s in shown), strict=True):
        assert (one == alone).all()


def test_the_narrowest_class_counts_by_the_first_cut_that_holds_it() -> None:
    first, second = np.zeros((2, 20, 200), np.uint8)
    first[2:10] = 1  # 8 wide
    second[2:10], second[15:18] = 255, 2  # 3 wide
    assert narrowest(np.stack([first, second])) == pytest.approx(3.3, abs=0.2)
    assert narrowest(first[None]) == pytest.approx(8, abs=0.5)
    assert narrowest(np.zeros((1, 3, 3), np.uint8)) == 0


@pytest.mark.parametrize(
    "settings", [RefinedSeedsSettings(), SeedCRFSettings(), CutSettings()], ids=lambda s: type(s).__name__
)
def test_keys_and_recipes_without_the_new_settings_are_as_before(settings: Any) -> None:
    assert "full_width" not in str(key_values(settings))
    assert "full_width" not in str(settings.model_dump(mode="json"))
