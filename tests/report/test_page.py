"""The page: every number shown, alone, accessible, escaped; one run or several."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.report.charts import N_COLOURS
from tag2mask.report.confusion import SHADES
from tag2mask.report.gallery import GalleryClass, GalleryPrototype
from tag2mask.report.page import render_page
from tag2mask.report.parts import Layer, Panel, RunPart, ShownImage, SplitPart, StageTime
from tag2mask.report.pictures import class_uri, data_uri, map_uri
from tag2mask.report.scores import LabelScore, MethodResult, Score
from tests.helpers.refused import refused
from tests.report.pages import Page, check_alone_and_accessible, colour_pairs, contrast, schemes

NASTY = '<b>"A&B\'s" {{x}}</script>'
LEDGER = ("pixel-masks:threshold(48)", "tags")


def method(name: str, fixed: float, oracle: float, at: float = 0.35) -> MethodResult:
    scores = (
        Score("fixed", 0.3, fixed, 21, 22, 71, 72, 48),
        Score("oracle", at, oracle, 23, 24, 73, math.nan, 48, LEDGER),
    )
    labels = (LabelScore("background", 81, 2, 3, 4, 5), LabelScore("cat", 41, math.nan, 13, 14, 15))
    counts = np.array([[900, 100], [30, 70]])
    return MethodResult(name, scores, ((0.0, 10.0), (at, oracle), (1.0, 5.0)), labels, counts, (0.1, 0.4, 0.4), "same")


CAM, LPCAM = method("cam", 50.14, 52.3), method("lpcam", 49.0, 58.94, 0.5)
LABELS = np.pad(np.ones((8, 8), np.uint8), 8)
SHOWN = ShownImage(
    "im1",
    "best of 48",
    data_uri(Image.new("RGB", (24, 24), "grey")),
    24,
    24,
    (
        Panel("photo", "image: cat", "photo with the tags cat"),
        Panel("truth", "truth", "mask drawn by hand", (Layer(class_uri(LABELS, 1), 0),)),
        Panel("map", "cam: cat", "map of cat by cam", (Layer(map_uri(LABELS * 200)),), "cam", 0),
        Panel(
            "seeds", "0.30", "seeds of cam", (Layer(class_uri(LABELS, 1), 0),), "cam", share="cat 11.1 %", note="77.7"
        ),
        Panel("labels", "masks", "labels of masks", (Layer(class_uri(LABELS, 1), 0),), note="66.6 mIoU"),
    ),
)
PART = SplitPart("train", 48, 2, (CAM, LPCAM), ("In no mean: boat.",), (SHOWN,))
RUN = RunPart(
    name="demo",
    title="tag2mask demo",
    data="parts (generated), 1 class",
    classes=("cat",),
    ledger=("tags",),
    seeds=(3,),
    parts=(PART,),
    thresholds={"cam": 0.3},
    times=(StageTime("classifier", 80, 0, 2_500_000_000), StageTime("cam", 12, 48), StageTime("lpcam", 0, 48)),
    command="tag2mask demo --out runs/demo",
    recipe="name: demo\nseeds: [3]\n",
    environment={"python": "3.11", "torch": "2.15"},
)


def rendered(folder: Path, *runs: RunPart) -> Page:
    render_page(runs or [RUN], folder / "page.html")
    return Page((folder / "page.html").read_text(encoding="utf-8"))


def test_the_page_stands_alone_and_is_accessible(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    check_alone_and_accessible(page)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert page.text("title")[0] == "tag2mask demo"
    assert 'name="viewport"' in page.source
    policy = page.all("meta", http_equiv="Content-Security-Policy")[0].attributes["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_all_numbers_stand_in_their_tables(tmp_path: Path) -> None:
    rows = rendered(tmp_path).text("tr")
    assert rows[0] == "MethodThresholdmIoUClasses’ mIoUClasses’ F1FPFNPrecisionRecallSupervision"
    assert rows[1:3] == ["cam0.3050.1––21.022.071.072.0tags", "lpcam0.3049.0––21.022.071.072.0tags"]
    assert rows[5] == "lpcam0.5058.9––23.024.073.0–pixel-masks:threshold(48), tags"
    assert rows[6:9] == ["ClassIoUFPFNPrecisionRecall", "background81.02.03.04.05.0", "cat41.0–13.014.015.0"]
    assert rows[12:15] == ["ground truth \\ predicted asbackgroundcat", "background90.010.0", "cat30.070.0"]
    assert rows[-3:] == ["classifier80 s––2.5 GB", "cam12 s480.250–", "lpcamfrom the store48––"]


def test_the_best_of_each_kind_is_bold_and_named_first(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    assert [e.text for e in page.elements if e.attributes.get("class") == "top"] == ["cam", "50.1", "lpcam", "58.9"]
    (fixed, oracle) = page.within(page.all("ul", class_="headlines")[0], "li")
    assert " ".join(fixed.text.split()) == (
        "50.1 mIoU cam fixed threshold, 48 images 1.1 points ahead of lpcam (49.0) Supervision: tags"
    )
    assert " ".join(oracle.text.split()) == (
        "58.9 mIoU lpcam oracle threshold, 48 images: an upper bound, chosen with the ground truth "
        "6.6 points ahead of cam (52.3) Supervision: pixel-masks:threshold(48), tags"
    )
    assert oracle.attributes["class"] == "bound"


def test_where_the_numbers_come_from_is_said(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    assert page.text("dd")[:3] == [
        "split train, 48 images; 2 more have no ground truth and are left out", "tags",
        "3: one run, so small differences may be chance",
    ]  # fmt: skip
    assert page.text("dd")[3:] == ["3.11", "2.15"]
    assert page.text("pre") == ["tag2mask demo --out runs/demo", "name: demo seeds: [3]"]
    assert "In no mean: boat." in page.text("p")
    said = [p for p in page.text("p") if p.startswith("Threshold kind")]
    assert said[1] == (
        "Threshold kind oracle: chosen with the ground truth of split train itself, an upper bound. "
        "Split train, 48 images. All in percent."
    )


def test_curves_and_histograms_are_drawn_and_described(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    assert len(page.all("polyline")) == 2
    titles = page.text("title")
    assert "cam best 52.3 at 0.35, lpcam best 58.9 at 0.50" in titles[1]
    assert titles[2] == (
        "Best thresholds of cam: 3 images, mean 0.30, standard deviation 0.14; measured at 0.30. Images by threshold: "
        "0.10 to 0.14: 1, 0.40 to 0.44: 2"
    )
    assert len(page.all("rect")) == 4


def test_pictures_lie_over_the_photo_with_words(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    assert page.text("figcaption")[2:] == [
        "image: cat", "cam: cat", "truth", "seeds of cam at 0.30cat 11.1 %; 77.7", "masks66.6 mIoU",
    ]  # fmt: skip
    assert [e.attributes["aria-label"] for e in page.all("div", role="img")] == [
        "photo with the tags cat", "map of cat by cam", "mask drawn by hand", "seeds of cam", "labels of masks",
    ]  # fmt: skip
    assert page.source.count(SHOWN.photo) == 1, "the photo is stored once"
    assert page.text("h3")[0] == "im1 best of 48"
    pictures = [i for i in page.all("img") if i.inside("article")]
    assert all(i.attributes["loading"] == "lazy" for i in pictures)


def test_without_its_script_the_page_shows_the_measured_seeds_and_no_dead_controls(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    (seeds,) = page.all("figure", data_what="seeds")
    assert [i.attributes["src"] for i in page.within(seeds, "img")] == [class_uri(LABELS, 1)]
    assert "hidden" in page.all("div", class_="tools")[0].attributes
    assert all("hidden" in box.attributes for box in page.all("input", type="checkbox"))
    assert page.text("label")[0] == "cat"


def test_of_many_images_most_are_kept_as_text_until_the_script_shows_them(tmp_path: Path) -> None:
    shown = tuple(replace(SHOWN, id=f"im{i}") for i in range(14))
    page = rendered(tmp_path, replace(RUN, parts=(replace(PART, shown=shown),)))
    check_alone_and_accessible(page)
    kept = page.all("script", class_="kept")
    assert len(page.all("article")) == 14
    assert [script.parents[-1].text.split()[0] for script in kept] == ["im12", "im13"]
    assert all(script.attributes["type"] == "text/plain" for script in kept), "the browser does not run it"
    assert len(page.all("noscript")) == 2
    inner = Page(kept[0].text)
    assert [f.attributes["data-what"] for f in inner.all("figure")] == ["photo", "map", "truth", "seeds", "labels"]


def test_the_script_is_given_colours_classes_and_thresholds_in_one_block(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    data, script = page.all("script")
    found = json.loads(data.text)
    assert len(found["ramp"]) == 256
    assert found["classes"].keys() == {"0"}
    assert found["runs"] == [{"id": "r0", "names": ["cat"], "thresholds": {"cam": 0.3}}]
    assert {len(tile) for tile in found["patterns"].values()} == {64}
    assert '"use strict"' in script.text


def test_several_runs_are_compared_where_they_may_be(tmp_path: Path) -> None:
    better = replace(RUN, name="better", parts=(replace(PART, methods=(replace(LPCAM, scores=LPCAM.scores[:1]),)),))
    other = replace(RUN, name="other", parts=(replace(PART, methods=(replace(CAM, images="others"),)),))
    page = rendered(tmp_path, RUN, better, other)
    check_alone_and_accessible(page)
    assert page.text("h1") == ["3 runs: demo, better, other"]
    assert page.text("h2") == ["Runs compared", "demo", "better", "other"]
    rows = page.text("tr")
    assert rows[:4] == [
        "RunMethodThresholdmIoUClasses’ mIoUClasses’ F1FPFNPrecisionRecallSupervision",
        "democam0.3050.1––21.022.071.072.0tags",
        "demolpcam0.3049.0––21.022.071.072.0tags", "betterlpcam0.3049.0––21.022.071.072.0tags",
    ]  # fmt: skip
    assert rows[4].startswith("MethodThreshold"), "the oracle of one run, and other images, are not compared"
    assert any(p.startswith("Numbers of other images, classes or kinds of threshold are not") for p in page.text("p"))
    links = page.within(page.all("nav", aria_label="Runs")[0], "a")
    assert [a.attributes["href"] for a in links] == ["#r0", "#r1", "#r2"]
    assert len(page.all("nav")) == 4, "and the sections of each"
    nothing = rendered(tmp_path, RUN, other)
    assert any(p.startswith("Nothing can be compared") for p in nothing.text("p"))


def test_several_splits_have_sections_of_their_own(tmp_path: Path) -> None:
    page = rendered(tmp_path, replace(RUN, parts=(PART, replace(PART, split="val"))))
    check_alone_and_accessible(page)
    assert page.text("h2")[:2] == ["Split train", "Split val"]


def test_links_lead_to_every_section_that_is_there(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    links = page.within(page.all("nav")[0], "a")
    assert [a.text for a in links] == [
        "Results", "Curves", "Best thresholds", "Pictures", "Classes", "Confusion", "Time and memory", "Environment",
        "Rerun",
    ]  # fmt: skip
    headings = {f"#{e.attributes.get('id')}": e.text for e in page.all("h2")}
    assert [a.attributes["href"] for a in links] == list(headings)
    two = rendered(tmp_path, replace(RUN, parts=(PART, replace(PART, split="val", shown=()))))
    names = [a.text for a in two.all("a")]
    assert ("Pictures (train)" in names, "Pictures (val)" in names, "Classes (val)" in names) == (True, False, True)


def test_means_over_seeds_follow_the_seeds(tmp_path: Path) -> None:
    seeds = tuple(
        replace(CAM, name=f"cam@{i}", scores=(replace(CAM.scores[0], miou=v),)) for i, v in ((0, 50), (1, 54))
    )
    page = rendered(tmp_path, replace(RUN, seeds=(0, 1), parts=(replace(PART, methods=seeds),)))
    assert page.text("tr")[3] == "cam, mean of 2 seeds–52.0 ± 2.8–––––––"
    assert page.text("dd")[2] == "0, 1: means ± standard deviation between seeds"


def test_prototypes_are_shown_by_class(tmp_path: Path) -> None:
    patch = Image.new("RGB", (40, 40))
    prototype = GalleryPrototype("foreground:3", 0.97, 12, True, "0.970 > mu_f 0.9", (patch,))
    run = replace(RUN, galleries=(("prototypes", (GalleryClass(NASTY, (prototype,)),)),), gallery_note="note")
    page = rendered(tmp_path, run)
    check_alone_and_accessible(page)
    assert f"{NASTY}: 1 prototypes" in page.text("summary")
    assert page.text("div", class_="card") == ["foreground:3 score 0.970, 12 features"]


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    mask = MethodResult("masks", (Score("none", None, 60, 1, 2, 3, 4, 48),))
    part = replace(PART, n_without_truth=0, methods=(mask,), shown=())
    bare = rendered(tmp_path, replace(RUN, parts=(part,), times=(), recipe="", environment={}, thresholds={}))
    assert bare.text("h2") == ["Results", "Rerun"]
    assert bare.text("tr")[1] == "masks–60.0––1.02.03.04.0tags"
    assert bare.text("dd")[0] == "split train, 48 images"
    unmeasured = rendered(tmp_path, replace(RUN, parts=(replace(PART, methods=()),)))
    assert unmeasured.text("h2")[0] == "Pictures"


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    nasty = replace(
        method(NASTY, 1, 2), labels=(LabelScore("background", 1, 1, 1, 1, 1), LabelScore(NASTY, 1, 1, 1, 1, 1))
    )
    panels = tuple(replace(p, caption=NASTY, alt=NASTY, stage=p.stage and NASTY, note=NASTY) for p in SHOWN.panels)
    part = replace(
        PART, split=NASTY, methods=(nasty,), notes=(NASTY,), shown=(replace(SHOWN, id=NASTY, panels=panels),)
    )
    run = replace(
        RUN, name=NASTY, title=NASTY, data=NASTY, classes=(NASTY,), ledger=(NASTY,), parts=(part,), command=NASTY,
        thresholds={NASTY: 0.3}, times=(StageTime(NASTY, 1),), recipe=NASTY, environment={NASTY: NASTY},
    )  # fmt: skip
    page = rendered(tmp_path, run, replace(run, name="second"))
    check_alone_and_accessible(page)
    assert page.text("h2")[1] == NASTY
    assert page.text("option")[0] == NASTY
    assert page.all("figure", data_what="map")[0].attributes["data-stage"] == NASTY
    found = json.loads(page.all("script")[0].text)
    assert found["runs"][0]["thresholds"] == {NASTY: 0.3}
    assert len(page.all("script")) == 2


def test_every_pair_of_colours_in_the_style_sheet_stands_out_in_every_scheme(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    found = set(colour_pairs(page))
    assert {("text", "page"), ("quiet", "panel"), ("text", "shade-4"), ("link", "page")} <= found, "they are read"
    for name, colours in schemes(page).items():
        for ink, ground in sorted(found):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (name, ink, ground)


def test_lines_and_borders_that_carry_meaning_stand_out_in_every_scheme(tmp_path: Path) -> None:
    for name, colours in schemes(rendered(tmp_path)).items():
        pairs = [(f"line-{i}", "page") for i in range(N_COLOURS)]
        pairs += [("line-1", "shade-3"), ("line-2", "shade-3")]  # the threshold over the bars, and their border
        pairs += [("quiet", "panel"), ("quiet", "page"), ("link", "page"), ("link", "panel")]  # buttons, bounds, focus
        pairs += [("text", f"shade-{i}") for i in range(1, SHADES + 1)]  # the frame of the diagonal
        for ink, ground in pairs:
            assert contrast(colours[ink], colours[ground]) >= 3, (name, ink, ground)


def test_the_style_sheet_has_no_colour_outside_its_schemes_but_the_grey_of_the_samples(tmp_path: Path) -> None:
    style = re.sub(r":root \{.*?\}", "", rendered(tmp_path).all("style")[0].text, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgba?\(|hsl", style) == ["#8a8a8a"]


def test_what_has_the_focus_is_outlined(tmp_path: Path) -> None:
    style = rendered(tmp_path).all("style")[0].text
    assert ":focus-visible { outline: 3px solid var(--link)" in style
    assert "outline: none" not in style
    assert "outline: 0" not in style


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StageError, match="cannot write .*page.html"):
        render_page([RUN], tmp_path / "file" / "page.html")
    with refused(DataError, "at least one measured stage", "demo has none"):
        render_page([replace(RUN, parts=())], tmp_path / "page.html")
    with pytest.raises(DataError, match="needs at least one run"):
        render_page([], tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_classes_alone_stand_beside_and_trivial_answers_below(tmp_path: Path) -> None:
    scores = tuple(replace(s, miou_foreground=30, f1_foreground=40) for s in CAM.scores)
    cam = replace(CAM, scores=(replace(scores[0], tolerance=66.5), *scores[1:]))
    nothing = Score("none", None, math.nan, math.nan, math.nan, math.nan, math.nan, ledger=())
    trivial = (
        ("all background", replace(nothing, miou=25, n_images=48, miou_foreground=0, f1_foreground=0)),
        ("random own tag", replace(nothing, miou=12, n_images=47, ledger=("tags",))),
    )
    page = rendered(tmp_path, replace(RUN, parts=(replace(PART, methods=(cam,), trivial=trivial),)))
    check_alone_and_accessible(page)
    rows = page.text("tr")
    assert rows[0] == "MethodThresholdmIoUClasses’ mIoUClasses’ F1IoU ± 2 pixelsFPFNPrecisionRecallSupervision"
    assert rows[1] == "cam0.3050.130.040.066.521.022.071.072.0tags"
    assert rows[2] == "all background, for scale–25.00.00.0–––––none", "the other one is of another count of images"
    assert "IoU ± 2 pixels" not in rows[3], "no class is thin in what the oracle's table holds"
    (fixed, _) = page.within(page.all("ul", class_="headlines")[0], "li")
    assert "the classes alone: 30.0 mIoU, F1 40.0" in " ".join(fixed.text.split())
