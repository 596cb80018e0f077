"""The report in a real browser: nothing overflows, the slider and the switches draw what the rule says, print works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.api import run
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.browser import BROWSER, Tab, tab
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.report.pages import Page
from tests.run_report.test_rebuild import articles, map_bytes, slider

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path: apt install chromium"),
]

WATCH = """
window.errors = [];
addEventListener("error", event => errors.push(String(event.message)));
addEventListener("unhandledrejection", event => errors.push(String(event.reason)));
"""
PROBE = """
(async () => {
  const wait = () => new Promise(done => setTimeout(done, 100)), found = { errors };
  const until = async is => { for (let n = 0; n < 600 && !is(); n++) await wait(); };
  const two = a => a.querySelectorAll("figure[data-what=map]").length === 2;
  const article = [...document.querySelectorAll("article")].find(two);
  const seeds = article.querySelector("figure[data-what=seeds]");
  const input = document.querySelector(".tools input"), moves = {};
  await wait();
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  found.untouched = seeds.querySelector("canvas") === null;
  for (const at of AT) {
    input.value = at;
    input.dispatchEvent(new Event("input"));
    await until(() => seeds.querySelector(".pic").getAttribute("aria-label").includes(` at ${at.toFixed(2)}`));
    const canvas = seeds.querySelector("canvas");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    moves[at] = { size: [canvas.height, canvas.width], rgba: Array.from(pixels), words: seeds.textContent,
      spoken: seeds.querySelector(".pic").getAttribute("aria-label"),
      told: document.querySelector("output").textContent };
  }
  found.moves = moves;
  const boxes = [...document.querySelectorAll(".classes input")];
  found.boxes = boxes.map(box => !box.hidden && box.checked);
  for (const box of boxes) box.click();
  await until(() => seeds.textContent.includes("nothing"));
  found.off = { words: seeds.textContent,
    maps: [...article.querySelectorAll("figure[data-what=map]")].map(f => f.hidden),
    layers: [...article.querySelectorAll("figure[data-what=truth] img[data-class]")].map(i => i.hidden) };
  document.querySelector(".tools button").click();
  await until(() => !seeds.textContent.includes("nothing"));
  found.reset = { words: seeds.textContent, told: document.querySelector("output").textContent,
    maps: [...article.querySelectorAll("figure[data-what=map]")].map(f => f.hidden), boxes: boxes.map(b => b.checked) };
  for (const part of document.querySelectorAll("details")) part.open = true;
  const all = words => [...document.querySelectorAll(words)].filter(e => e.getClientRects().length);
  found.unreachable = all("a, input, select, button, summary, [tabindex]").filter(e => {
    e.focus();
    return document.activeElement !== e;
  }).map(e => e.outerHTML.slice(0, 80));
  found.small = all("nav a, .tools input, .tools select, .tools button, .classes label, summary").filter(
    e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML.slice(0, 80));
  return found;
})()
"""
AT = (0.1, 0.45, 0.8)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunResult]:
    folder = tmp_path_factory.mktemp("browser")
    with registered():
        yield run(str(few_masks_recipe(folder)), out=folder / "runs" / "run", only=["maps-seeds", "masks-score"])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("chromium") / "profile") as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        yield browser


@pytest.fixture(scope="module")
def found(done: RunResult, opened: Tab) -> dict[str, Any]:
    opened.open(done.report, 390, 9000)
    read: dict[str, Any] = opened.value(PROBE.replace("AT)", f"{list(AT)})"))
    return read


def test_the_page_runs_without_errors_and_is_not_wider_than_a_phone(found: dict[str, Any]) -> None:
    assert found["errors"] == []
    assert found["overflow"] <= 0
    assert found["untouched"], "nothing is drawn again before the slider is moved"
    assert all(found["boxes"])


def test_the_keyboard_reaches_every_control_and_each_is_large_enough_to_touch(found: dict[str, Any]) -> None:
    assert found["unreachable"] == []
    assert found["small"] == [], "WCAG 2.2, target size: 24 pixels"


def test_the_slider_draws_the_seeds_of_the_documented_rule(done: RunResult, found: dict[str, Any]) -> None:
    page = Page(done.report.read_text(encoding="utf-8"))
    for _, article in articles(page):
        maps = [f for f in page.within(article, "figure") if f.attributes["data-what"] == "map"]
        if len(maps) == 2:
            break
    columns = tuple(int(f.attributes["data-class"] or 0) for f in maps)
    names = json.loads(page.all("script")[0].text)["runs"][0]["names"]
    for at in AT:
        move = found["moves"][str(at)]
        labels = slider(map_bytes(page, article), columns, tuple(move["size"]), at)
        pixels = np.array(move["rgba"], np.uint8).reshape(*move["size"], 4)
        inside = (pixels[..., 3] > 0) & ~(pixels == (0, 0, 0, 220)).all(-1)
        assert np.array_equal(inside, labels > 0), at
        shares = [f"{names[i - 1]} {100 * (labels == i).mean():.1f} %" for i in np.unique(labels) if i]
        words = ", ".join(shares) or "nothing"
        assert words in move["words"]
        assert move["spoken"] == f"seeds of maps at {at:.2f}: {words}"
        assert move["told"].startswith(f"{at:.2f}, measured ")


def test_switches_hide_a_class_everywhere_and_the_button_brings_all_back(found: dict[str, Any]) -> None:
    assert "nothing" in found["off"]["words"]
    assert found["off"]["maps"] == found["off"]["layers"] == [True, True]
    assert found["reset"]["told"].endswith(", as measured")
    assert found["reset"]["maps"] == [False, False]
    assert all(found["reset"]["boxes"])
    assert "nothing" not in found["reset"]["words"]


@pytest.mark.parametrize(("width", "height"), [(1280, 3000), (390, 3000)])
def test_a_screenshot_shows_text_and_pictures(done: RunResult, opened: Tab, width: int, height: int) -> None:
    opened.open(done.report, width, height)
    with Image.open(BytesIO(opened.screenshot())) as image:
        assert image.size == (width, height)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 1000, "pictures have many colours"
    grey = pixels.mean(axis=1)
    assert (grey > 250).mean() > 0.3, "most of it is page"
    assert (grey < 60).mean() > 0.005, "and there is text"


def test_it_prints(done: RunResult, opened: Tab) -> None:
    opened.open(done.report, 1280, 900)
    data = opened.pdf()
    assert data.startswith(b"%PDF")
    assert data.count(b"/Subtype /Image") >= 8, "photos and layers are in print"
