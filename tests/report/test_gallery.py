"""The prototype gallery: every prototype with its name, numbers, reason, patches and the command that drops it."""

from pathlib import Path

import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.report.gallery import GalleryClass, GalleryPrototype, render_gallery
from tests.helpers.refused import refused
from tests.report.pages import Page, check_alone_and_accessible, colour_pairs, contrast, schemes


def prototype(name: str, kept: bool = True, patches: int = 3) -> GalleryPrototype:
    images = tuple(Image.new("RGB", (32, 32), (i * 40, 0, 0)) for i in range(patches))
    reason = "0.970 > mu_f 0.9" if kept else "0.400 <= mu_f 0.9"
    return GalleryPrototype(name, 0.97 if kept else 0.4, 1234, kept, reason, images)


TRAIN = GalleryClass("train", (prototype("foreground:0"), prototype("foreground:1", False), prototype("context:0")))
PLANT = GalleryClass("potted <plant>", (prototype("foreground:0", patches=0),))


def rendered(classes: list[GalleryClass], folder: Path, run: str = "RUN") -> Page:
    render_gallery(classes, "Prototypes of lpcam", folder / "gallery.html", run)
    return Page((folder / "gallery.html").read_text(encoding="utf-8"))


def test_every_prototype_has_a_card(tmp_path: Path) -> None:
    page = rendered([TRAIN, PLANT], tmp_path)
    check_alone_and_accessible(page)
    assert page.text("h1") == ["Prototypes of lpcam"]
    assert page.text("h2") == ["train", "potted <plant>"]
    assert page.text("h4") == ["foreground:0kept", "foreground:1dropped", "context:0kept", "foreground:0kept"]
    cards = page.text("article")
    assert "score 0.970, 1234 features 0.970 > mu_f 0.9 drop train foreground:0" in cards[0]
    assert cards[1].endswith("score 0.400, 1234 features 0.400 <= mu_f 0.9")
    assert [e.attributes["class"] for e in page.all("article")] == ["card", "card dropped", "card", "card"]


def test_patches_are_shown_in_order_with_words(tmp_path: Path) -> None:
    page = rendered([TRAIN], tmp_path)
    alts = [e.attributes["alt"] for e in page.all("img")]
    assert len(alts) == 9
    assert alts[:2] == [f"Patch {i} of 3 nearest to foreground:0 of train" for i in (1, 2)]


def test_counts_are_of_each_side(tmp_path: Path) -> None:
    page = rendered([TRAIN, PLANT], tmp_path)
    assert page.text("h3") == [
        "foreground 1 of 2 kept", "context 1 of 1 kept", "foreground 1 of 1 kept", "context 0 of 0 kept",
    ]  # fmt: skip


def test_commands_can_be_pasted(tmp_path: Path) -> None:
    page = rendered([PLANT], tmp_path, run="runs/my run")
    assert page.text("pre") == ["tag2mask prototypes 'runs/my run' drop CLASS foreground:0"]
    assert "drop 'potted <plant>' foreground:0" in page.text("code")


def test_links_lead_to_the_classes(tmp_path: Path) -> None:
    page = rendered([TRAIN, PLANT], tmp_path)
    targets = {e.attributes.get("id") for e in page.all("h2")}
    assert {e.attributes["href"] for e in page.all("a")} == {f"#{t}" for t in targets}


def test_every_pair_of_colours_stands_out_in_every_scheme(tmp_path: Path) -> None:
    page = rendered([TRAIN], tmp_path)
    found = set(colour_pairs(page))
    assert {("good", "page"), ("bad", "page")} <= found
    for name, colours in schemes(page).items():
        for ink, ground in sorted(found):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (name, ink, ground)


def test_no_class_is_said(tmp_path: Path) -> None:
    assert "There are no prototypes." in rendered([], tmp_path).text("p")


@pytest.mark.parametrize("name", ["front:0", "foreground", "foreground:", "context:x", "foreground:-1"])
def test_a_name_that_the_command_would_not_take_is_refused(tmp_path: Path, name: str) -> None:
    with refused(DataError, f"prototype '{name}'", "class 'train'", "foreground:3"):
        rendered([GalleryClass("train", (prototype(name),))], tmp_path)
    assert list(tmp_path.iterdir()) == []
