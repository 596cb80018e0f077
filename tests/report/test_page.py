"""The page of a run: who won within one kind, every number shown, alone, accessible, escaped."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.report.curves import N_COLOURS
from tag2mask.report.page import (
    Example,
    MethodResult,
    PageData,
    Picture,
    Score,
    StageTime,
    by_kind,
    headline,
    pick_examples,
    render_page,
)
from tests.report.pages import Page, check_alone_and_accessible, contrast, schemes


def method(name: str, fixed: float, oracle: float, at: float = 0.35) -> MethodResult:
    scores = (Score("fixed", 0.3, fixed, 21, 22, 71, 72), Score("oracle", at, oracle, 23, 24, 73, math.nan))
    return MethodResult(name, scores, ((0.0, 10.0), (at, oracle), (1.0, 5.0)))


CAM, LPCAM_F, LPCAM = method("CAM", 50.14, 52.3), method("LPCAM-F", 51.1, 53.7, 0.7), method("LPCAM", 49.0, 58.94, 0.5)
PICTURES = tuple(Picture(c, f"{c} of im1", Image.new("RGB", (50, 40))) for c in ("image", "CAM", "LPCAM", "truth"))
DATA = PageData(
    title="tag2mask demo",
    data="parts (generated), 2 classes",
    split="train",
    n_images=48,
    n_without_truth=2,
    ledger=("tags",),
    seed=3,
    methods=(CAM, LPCAM_F, LPCAM),
    examples=(Example("im1", "best of 48", PICTURES),),
    times=(StageTime("classifier", 80, 0), StageTime("cam", 12, 48), StageTime("lpcam", 0, 48)),
    command="tag2mask demo --out runs/demo",
)


def rendered(data: PageData, folder: Path) -> Page:
    render_page(data, folder / "page.html")
    return Page((folder / "page.html").read_text(encoding="utf-8"))


def test_the_winner_is_named_for_each_kind_alone() -> None:
    assert headline([CAM, LPCAM_F, LPCAM]) == (
        "LPCAM-F wins at fixed thresholds with 51.1 mIoU, 1.0 points ahead (CAM 50.1, LPCAM 49.0).",
        "LPCAM wins at oracle thresholds with 58.9 mIoU, 5.2 points ahead (LPCAM-F 53.7, CAM 52.3).",
    )


def test_draws_single_methods_and_undefined_numbers_are_said() -> None:
    one, two = method("A", 50.02, math.nan), method("B", 49.98, math.nan)
    assert headline([one, two, method("C", 40, math.nan)]) == (
        "A and B are level at fixed thresholds with 50.0 mIoU.",
        "Nothing to compare at oracle thresholds.",
    )
    mask = MethodResult("masks", (Score("none", None, 60, 1, 2, 3, 4),))
    assert headline([mask]) == ("masks reaches 60.0 mIoU without a threshold.",)
    with pytest.raises(DataError, match="at least one method with a score; evaluate a stage first"):
        headline([MethodResult("A", ())])


def test_a_method_without_a_kind_is_not_compared_in_it() -> None:
    only_oracle = MethodResult("X", (Score("oracle", 0.1, 99, 0, 0, 0, 0),))
    assert [name for name, _ in by_kind([CAM, only_oracle], "fixed")] == ["CAM"]
    assert headline([CAM, only_oracle])[0] == "CAM reaches 50.1 mIoU at fixed thresholds."


def test_examples_are_chosen_by_rule() -> None:
    scores = [("a", 10.0), ("b", 90.0), ("c", 50.0), ("d", math.nan), ("e", 40.0), ("f", 60.0), ("g", 60.0)]
    assert pick_examples(scores) == (
        ("b", "best of 6"), ("g", "median of 6"), ("c", "median of 6"), ("a", "worst of 6"),
    )  # fmt: skip
    assert pick_examples([("a", 1.0)]) == (("a", "best of 1"),)
    assert pick_examples([("b", 5.0), ("a", 5.0)], n_median=1) == (("a", "best of 2"), ("b", "worst of 2"))
    assert pick_examples([("a", math.nan)]) == ()


def test_the_page_stands_alone_and_is_accessible(tmp_path: Path) -> None:
    page = rendered(DATA, tmp_path)
    check_alone_and_accessible(page)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert page.text("title")[0] == "tag2mask demo"
    assert 'name="viewport"' in page.source


def test_all_numbers_stand_in_their_tables(tmp_path: Path) -> None:
    page = rendered(DATA, tmp_path)
    rows = page.text("tr")
    assert rows[0] == "MethodThresholdmIoUFPFNPrecisionRecall"
    assert rows[1:4] == [
        "CAM0.3050.121.022.071.072.0", "LPCAM-F0.3051.121.022.071.072.0", "LPCAM0.3049.021.022.071.072.0",
    ]  # fmt: skip
    assert rows[7] == "LPCAM0.5058.923.024.073.0–"
    tops = [e.text for e in page.elements if e.attributes.get("class") == "top"]
    assert tops == ["LPCAM-F", "51.1", "LPCAM", "58.9"]
    assert rows[9:] == ["classifier80 s––", "cam12 s480.250", "lpcamfrom the store48–"]


def test_where_the_numbers_come_from_is_said(tmp_path: Path) -> None:
    page = rendered(replace(DATA, notes=("In no mean: boat.",)), tmp_path)
    assert page.text("dd") == [
        "split train, 48 images; 2 more have no truth and are left out", "tags", "3: one run, so small differences may"
        " be chance",
    ]  # fmt: skip
    assert page.text("pre") == ["tag2mask demo --out runs/demo"]
    assert "In no mean: boat." in page.text("p")
    assert any("oracle: chosen with the truth of split train itself, an upper bound" in p for p in page.text("p"))


def test_the_curve_is_drawn_and_told(tmp_path: Path) -> None:
    page = rendered(DATA, tmp_path)
    assert len(page.all("polyline")) == 3
    assert "CAM best 52.3 at 0.35, LPCAM-F best 53.7 at 0.70, LPCAM best 58.9 at 0.50" in page.text("title")[1]


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    mask = MethodResult("masks", (Score("none", None, 60, 1, 2, 3, 4),))
    bare = rendered(replace(DATA, methods=(mask,), examples=(), times=(), n_without_truth=0), tmp_path)
    assert bare.text("h2") == ["Results", "The same again"]
    assert bare.text("tr")[1] == "masks–60.01.02.03.04.0"
    assert bare.text("dd")[0] == "split train, 48 images"


def test_pictures_have_caption_and_alt_text(tmp_path: Path) -> None:
    page = rendered(DATA, tmp_path)
    assert page.text("figcaption") == ["image", "CAM", "LPCAM", "truth"]
    assert [e.attributes["alt"] for e in page.all("img")][1] == "CAM of im1"
    assert page.text("h3") == ["im1 best of 48"]


def test_names_are_escaped(tmp_path: Path) -> None:
    page = rendered(replace(DATA, title="<script>alert(1)</script>", command="a && b > c"), tmp_path)
    assert page.text("h1") == ["<script>alert(1)</script>"]
    assert page.text("pre") == ["a && b > c"]
    assert not page.all("script")


def test_text_and_lines_stand_out_in_every_scheme(tmp_path: Path) -> None:
    for name, colours in schemes(rendered(DATA, tmp_path)).items():
        for ground in ("page", "panel"):
            for ink in ("text", "quiet", "link", "good", "bad"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (name, ink, ground)
        for i in range(N_COLOURS):
            assert contrast(colours[f"line-{i}"], colours["page"]) >= 3, (name, i)


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StageError, match="cannot write .*page.html"):
        render_page(DATA, tmp_path / "file" / "page.html")
    with pytest.raises(DataError):
        render_page(replace(DATA, methods=()), tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
