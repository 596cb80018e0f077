"""Figures hold what they were given: labels, numbers, one mark for each value; the same bytes each time."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.report import fonts
from tag2mask.report.examples import Example, draw_examples
from tag2mask.report.figures import (
    Boxes,
    Curve,
    Dots,
    Histogram,
    draw_boxes,
    draw_curves,
    draw_dots,
    draw_histograms,
)
from tests.helpers.refused import refused

CURVES = [Curve(name, ((0.0, 10.0), (0.5, peak), (1.0, 5.0)), (0.0, 0.5)) for name, peak in (("cam", 40), ("amn", 60))]


def texts(path: Path) -> list[str]:
    """Every text of an SVG."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def bars(path: Path) -> list[float]:
    """Heights of the filled bars of a histogram, in the picture's own units."""
    found = re.findall(r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) [\d.]+ \nL [\d.]+ ([\d.]+) ', path.read_text())
    return [float(bottom) - float(top) for left, bottom, right, top in found if 0 < float(right) - float(left) < 15]


def test_curves_are_named_and_both_axes_say_what_they_are(tmp_path: Path) -> None:
    draw_curves(CURVES, "Seeds, train, 12 images, seed 0", tmp_path / "curves.svg")
    assert {"cam", "amn", "threshold", "mIoU (%)", "Seeds, train, 12 images, seed 0"} <= set(
        texts(tmp_path / "curves.svg")
    )


def test_lines_are_distinguished_without_colour(tmp_path: Path) -> None:
    draw_curves([Curve(str(i), CURVES[0].points, (0, 0.5)) for i in range(6)], "six", tmp_path / "six.svg")
    drawn = re.findall(
        r'style="fill: none;([^"]*)stroke: (#\w+); stroke-width: 1.2', (tmp_path / "six.svg").read_text()
    )
    assert len(set(drawn)) == 6
    assert len({dashes for dashes, _ in drawn}) == 6


def test_a_histogram_counts_every_threshold_in_its_bin(tmp_path: Path) -> None:
    values = (0.0, 0.02, 0.03, 0.15, 0.15, 0.15, 1.0)  # bins around 0, 0.05, 0.15, 1: 2, 1, 3, 1
    panels = [Histogram("cam", values, 0.3, "mean 0.2"), Histogram("amn", (0.5,) * 6, 0.5, "mean 0.5")]
    draw_histograms(panels, "Best thresholds, train", tmp_path / "h.svg")
    found = texts(tmp_path / "h.svg")
    assert {"cam", "mean 0.2", "global: 0.30", "amn", "global: 0.50", "best threshold of an image", "images"} <= {
        *found
    }
    assert "Best thresholds, train" in found
    heights = [height for height in bars(tmp_path / "h.svg") if height > 1]
    unit = heights[1]
    np.testing.assert_allclose(np.asarray(heights) / unit, [2, 1, 3, 1, 6], atol=1e-3)  # one scale for both panels


def test_boxes_stand_beside_each_other_under_their_names(tmp_path: Path) -> None:
    panels = [
        Boxes("spread", "0..1", (("cam", (0.1, 0.2)), ("amn", (0.05,)))),
        Boxes("gap", "0..1", (("cam", (0.5,)),)),
    ]
    draw_boxes(panels, "Activation", tmp_path / "b.svg")
    found = texts(tmp_path / "b.svg")
    assert [found.count(name) for name in ("spread", "gap", "cam", "amn", "0..1", "Activation")] == [1, 1, 2, 1, 2, 1]


def test_choices_are_ordered_by_their_mean_and_every_stage_is_named(tmp_path: Path) -> None:
    series = [
        Dots("cam", (("worse", 5.0), ("best", 0.5), ("middle", 2.0))),
        Dots("lpcam", (("worse", 4.0), ("best", 1.5))),
    ]
    draw_dots(series, "points lost", "Losses", tmp_path / "dots.svg")
    svg = (tmp_path / "dots.svg").read_text()
    assert all(f">{name}<" in svg for name in ("cam", "lpcam"))
    order = [svg.index(f">{name}<") for name in ("worse", "middle", "best")]
    assert order == sorted(order), "the axis goes up: the best is written last, on top"
    assert ">points lost<" in svg
    draw_dots(series, "points lost", "Losses", tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == svg


def picture(shade: int) -> tuple[str, Image.Image]:
    return "image", Image.new("RGB", (40, 30), (shade, 0, 0))


def test_examples_are_rows_of_pictures(tmp_path: Path) -> None:
    example = Example("one", "it loses 9 points", (picture(200), picture(100)))
    draw_examples([example], "far", tmp_path / "1.png")
    draw_examples([example, Example("two", "it has no ground truth", (picture(50),))], "far", tmp_path / "2.png")
    with Image.open(tmp_path / "1.png") as one, Image.open(tmp_path / "2.png") as two:
        assert (two.width, two.height) == (one.width, 2 * one.height)
        shades = {pixel for _, pixel in one.convert("RGB").getcolors(1 << 24) or []}
    assert {(200, 0, 0), (100, 0, 0)} <= shades


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_curves(CURVES, "t", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "<dc:date>" not in (tmp_path / "a.svg").read_text()


def test_nothing_to_draw_and_nowhere_to_write_are_errors(tmp_path: Path) -> None:
    for draw, what in ((draw_curves, "curve"), (draw_histograms, "histogram"), (draw_boxes, "box plot")):
        with refused(DataError, "a figure", f"at least one {what}"):
            draw([], "t", tmp_path / "x.svg")
    with refused(DataError, "a figure", "at least one choice"):
        draw_dots([], "x", "y", tmp_path / "dots.svg")
    with refused(DataError, "a figure", "at least one example"):
        draw_examples([], "t", tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="cannot write"):
        draw_curves(CURVES, "t", tmp_path / "file" / "x.svg")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


ODD_NAMES = ("猫", "кошка", "a$b$", "$\\frac{", "x\x1b[31m", "a<b>&c", "\U00020000")


@pytest.mark.filterwarnings("error")
def test_names_of_any_script_and_with_dollars_are_drawn_as_they_are(tmp_path: Path) -> None:
    boxes = [(name, (0.1, 0.2, 0.3)) for name in ODD_NAMES]
    draw_boxes([Boxes("猫 $x$", "$y", tuple(boxes))], "$t$ 猫", tmp_path / "a.svg")
    found = {html.unescape(text) for text in texts(tmp_path / "a.svg")}
    assert {"猫", "кошка", "a$b$", "$\\frac{", r"x\x1b[31m", "a<b>&c", "猫 $x$", "$y", "$t$ 猫", "\U00020000"} <= found


@pytest.mark.filterwarnings("error")
def test_what_no_font_has_is_an_escape_in_a_picture_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fonts._characters
    monkeypatch.setattr(fonts, "_characters", lambda font: own(font) if "DejaVuSans.ttf" in font else frozenset())
    fonts._families.cache_clear()
    pictures = tuple((name, Image.new("RGB", (4, 4))) for name in ODD_NAMES)
    seen: list[str] = []
    save = Figure.savefig

    def saved(self: Figure, *args: Any, **options: Any) -> None:
        seen.extend(text.get_text() for text in self.findobj(Text))
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    with caplog.at_level("WARNING", "tag2mask"):
        draw_examples([Example("猫_1", "$r$", pictures)], "猫 猫", tmp_path / "a.png")
    assert {r"\u732b", r"\u20000", "кошка", "a$b$", r"\u732b_1: $r$", r"\u732b \u732b"} <= set(seen)
    (record,) = caplog.records
    assert "a.png: no font of this machine has 猫 \U00020000; written as escapes" in record.getMessage()
    fonts._families.cache_clear()


def test_a_font_that_has_the_characters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_characters", lambda font: frozenset("猫" if "DejaVuSerif.ttf" in font else "a"))
    fonts._families.cache_clear()
    assert fonts._families("a猫犬") == (("DejaVu Serif",), frozenset("犬"))
    fonts._families.cache_clear()


def test_an_example_over_a_photo_is_photo_layers_and_ground_truth() -> None:
    class One(Dataset):
        name, split, classes, has_truth = "one", "all", ("cat", "dog"), True
        samples = (Sample("a", (0, 1)), Sample("b", ()))

        def image(self, sample: Sample) -> Image.Image:
            return Image.new("RGB", (640, 320), (90, 90, 90))

        def truth(self, sample: Sample) -> NDArray[np.uint8] | None:
            return np.full((320, 640), 2, np.uint8) if sample.id == "a" else None

    dataset = One()
    layers: list[tuple[str, NDArray[Any]]] = [
        ("map", np.zeros((4, 8), np.float32)),
        ("mask", np.ones((320, 640), np.uint8)),
    ]
    first, second = (Example.over(dataset, s, dataset.image(s), "why", layers) for s in dataset.samples)
    assert [caption for caption, _ in first.pictures] == ["image: cat, dog", "map", "mask", "ground truth"]
    assert [caption for caption, _ in second.pictures] == ["image: no tags", "map", "mask"]
    assert {image.size for _, image in first.pictures} == {(320, 160)}
    photo, heat, mask, truth = (np.asarray(image.convert("RGB"))[80, 160] for _, image in first.pictures)
    assert photo.tolist() == [90, 90, 90]
    assert heat.max() < 30  # a map of zeros darkens
    assert mask.tolist() != truth.tolist()  # colours of two classes
