"""The report of finished runs: its numbers, its pictures and its slider are the library's; mistakes are told."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from benchmarks import report_page
from tag2mask.api import run
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.files import read_json
from tag2mask.core.palette import read_labels, write_labels
from tag2mask.core.types import IGNORE, ActivationMaps
from tag2mask.data.base import Dataset
from tag2mask.evaluation.best_thresholds import analyse_optimum
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.metrics import PER_LABEL, SegmentationScores
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.evaluation.thresholds import cut
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import RunResult, measured
from tag2mask.report.choice import ImageChoice
from tag2mask.report.scores import percent
from tag2mask.run_report import pixel_statistics as pixels
from tag2mask.run_report.build import finished_stages, run_part
from tag2mask.run_report.example_images import carried, sizes
from tag2mask.run_report.pixel_statistics import PIXELS, pixels_of
from tag2mask.run_report.rebuild import write_report
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.report.pages import Element, Page, check_alone_and_accessible

VOID = "photo 04"
"""An image with an object in a corner and void all around it: the seeds can hardly be wrong there."""

THRESHOLDS = (0.0, 0.05, 0.2, 0.35, 0.5, 0.77, 1.0)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("report")
    recipe = few_masks_recipe(folder)
    path = folder / "data" / "masks" / f"{VOID}.png"
    truth = read_labels(path)
    rows, columns = np.nonzero(truth)
    empty = np.full(truth.shape, IGNORE, np.uint8)
    empty[rows[len(rows) // 2], columns[len(columns) // 2]] = truth[truth > 0][0]
    write_labels(path, empty)
    return run(str(recipe), out=folder / "runs" / "run")


@pytest.fixture(scope="module")
def page(done: RunResult) -> Page:
    return written(done.path / "of-report.html", done.path)


def written(out: Path, *runs: Path, choice: ImageChoice | None = None) -> Page:
    write_report(runs, out, choice)
    return Page(out.read_text(encoding="utf-8"))


def dataset_of(result: RunResult) -> Dataset:
    run = OpenedRun(result.path)
    return run.split(run.plan.data.infer)


def copied(done: RunResult, folder: Path, name: str = "run") -> Path:
    """The run and its store, to be spoilt."""
    shutil.copytree(done.path.parent / ".store", folder / ".store", dirs_exist_ok=True)
    shutil.copytree(done.path, folder / name, symlinks=True)
    return folder / name


def test_the_page_stands_alone_and_is_accessible(page: Page) -> None:
    check_alone_and_accessible(page)


def test_run_and_report_write_the_same_page(done: RunResult, page: Page) -> None:
    of_run = done.report.read_text(encoding="utf-8")
    (command, _) = Page(of_run).text("pre")
    (again, _) = page.text("pre")
    assert again == f"tag2mask run {done.path / 'recipe.yaml'} --out {done.path}"
    assert of_run.replace(command, again).splitlines() == page.source.splitlines()


def test_every_number_of_the_tables_is_that_of_metrics_jsonl(done: RunResult, page: Page) -> None:
    rows = read_metrics(done.path / "metrics.jsonl")
    values = {(r.stage, r.threshold_kind, r.metric): r.value for r in rows}
    shown = page.text("tr")
    named = {(r.stage, r.threshold_kind): r.threshold for r in rows if r.metric == "miou"}
    assert len(named) == 7, "three thresholds of maps, the masks of two stages, two trivial answers"
    columns = ["miou", "miou_foreground", "f1_foreground"]
    columns += ["iou@2px"] if any(r.metric == "iou@2px" for r in rows) else []
    for (stage, kind), at in named.items():
        every = [*columns, "fp", "fn", "precision", "recall"]
        name, every = (f"{stage}, for scale", columns[:3]) if stage in TRIVIAL else (stage, every)
        cells = [percent(values[stage, kind, m] or 0.0) for m in every]
        number = "–" if at is None else f"{at:.2f}"
        assert any(line.startswith(name + number + "".join(cells)) for line in shown), (stage, kind)
    for name in ("background", "disc", "square", "stripe"):
        cells = [percent(values["masks", "few-masks(3)", f"{m}/{name}"] or 0.0) for m in PER_LABEL]
        assert name + "".join(cells) in shown
    count = next(r.n_images for r in rows if r.metric == "miou")
    assert page.text("dd")[0] == f"split all, {count} images"
    assert any(p.endswith(f"Split all, {count} images. All in percent.") for p in page.text("p"))


def test_each_number_names_the_supervision_behind_it(page: Page) -> None:
    rows = [[cell.text for cell in page.within(row, "td")] for row in page.all("tr") if row.text.startswith("maps0.")]
    assert [row[-1] for row in rows] == ["pixel-masks:threshold(3)", "none", "pixel-masks:threshold(9)"]


def test_the_confusion_is_that_of_the_metrics_and_the_optima_are_the_analysis_s(done: RunResult) -> None:
    dataset = dataset_of(done)
    values = {(r.stage, r.threshold_kind, r.metric): r.value for r in done.metrics}
    for found in measured(done.stages):
        if found.refined:
            continue
        counted = pixels_of(found, dataset)
        scores = SegmentationScores.from_matrix(counted.counts, dataset.classes)
        for metric, value in scores.values():
            known = values[found.name, found.threshold.kind_text, metric]
            assert known == pytest.approx(value, abs=1e-4) or (known is None and np.isnan(value))
        assert counted.void[VOID] > 0.99
        assert {share for name, share in counted.void.items() if name != VOID} == {0.0}
        if found.name == "maps":
            samples = [s for s in dataset.samples if s.id in counted.void]
            analysis = analyse_optimum(dataset, partial(found.maker.artefact.maps, dataset), samples=samples)
            assert counted.optima == {image.id: image.threshold for image in analysis.images}
        else:
            assert counted.optima == {}


def test_pixels_are_counted_once_and_again_where_the_memory_is_spoilt(
    done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = OpenedRun(copied(done, tmp_path))
    found = next(m for m in measured(finished_stages(opened)) if m.name == "maps")
    path, dataset = found.measuring.artefact.path / PIXELS, dataset_of(done)
    known = pixels_of(found, dataset)
    for text in ("{", '{"schema": 0, "matrix": []}'):
        path.write_text(text)
        assert pixels_of(found, dataset) == known
    monkeypatch.setattr(pixels, "_count_pixels", None)
    assert pixels_of(found, dataset) == known, "from memory"
    assert OpenedRun(tmp_path / "run").metrics == opened.metrics, "the artefact counts as whole"


def test_a_mostly_ignored_image_is_not_the_best_though_its_score_is(done: RunResult, page: Page) -> None:
    with (done.path / "masks-score" / "images.csv").open() as stream:
        scores = {line.split(",")[0]: line.split(",")[1].strip() for line in stream}
    assert float(scores[VOID]) == max(float(v) for name, v in scores.items() if name != "image")
    best = [h for h in page.text("h3") if "best of 8" in h]
    assert len(best) == 2
    assert not any(h.startswith(VOID) for h in best)


def articles(page: Page) -> Iterator[tuple[str, Element]]:
    for article in page.all("article"):
        (heading,) = page.within(article, "h3")
        (small,) = page.within(heading, "small")
        yield heading.text.removesuffix(small.text).strip(), article


def map_bytes(page: Page, article: Element) -> NDArray[np.uint8]:
    """(K, h, w) maps of stage ``maps`` as the page carries them."""
    figures = [f for f in page.within(article, "figure") if f.attributes["data-what"] == "map"]
    sources = [page.within(figure, "img")[0].attributes["src"] or "" for figure in figures]
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(s.split(",")[1])))) for s in sources])


def slider(values: NDArray[np.uint8], classes: tuple[int, ...], size: tuple[int, int], at: float) -> NDArray[np.uint8]:
    """Seeds by the rule that the page's script documents, pixel by pixel."""
    height, width = size
    _, h, w = values.shape
    labels = np.zeros(size, np.uint8)
    for y in range(height):
        for x in range(width):
            v, u = max(0.0, (y + 0.5) * h / height - 0.5), max(0.0, (x + 0.5) * w / width - 0.5)
            y0, x0 = min(int(v), h - 1), min(int(u), w - 1)
            y1, x1, dy, dx = min(y0 + 1, h - 1), min(x0 + 1, w - 1), v - y0, u - x0
            cells = values[:, [y0, y0, y1, y1], [x0, x1, x0, x1]].astype(float)
            upper = cells[:, 0] + (cells[:, 1] - cells[:, 0]) * dx
            lower = cells[:, 2] + (cells[:, 3] - cells[:, 2]) * dx
            now = upper + (lower - upper) * dy
            if now.max() > 255 * at:
                labels[y, x] = classes[int(now.argmax())] + 1
    return labels


def test_embedded_maps_and_the_slider_s_seeds_are_the_library_s(done: RunResult, page: Page) -> None:
    dataset = dataset_of(done)
    artefact = next(s.artefact for s in done.stages if s.stage.name == "maps")
    samples = {s.id: s for s in dataset.samples}
    shown = dict(articles(page))
    several = [name for name in shown if len(samples[name].tags) == 2]
    assert len(shown) == 8
    assert several, "an image of two classes is among them"
    for name in (several[0], next(n for n in shown if n not in several)):
        stored, size = artefact.maps(dataset, samples[name]), dataset.image(samples[name]).size[::-1]
        values = map_bytes(page, shown[name])
        assert np.abs(values / 255 - stored.maps.numpy()).max() <= 1 / 255
        full = stored.resize(*size).maps.numpy()
        in_bytes = ActivationMaps(stored.classes, torch.from_numpy(values.astype(np.float32) / 255))
        bytes_full = in_bytes.resize(*size).maps.numpy()
        ranked = np.sort(full, axis=0)[::-1]
        tied = (ranked[0] - ranked[1] <= 1 / 255) if len(ranked) > 1 else np.zeros(size, bool)
        for at in THRESHOLDS:
            found, wanted = slider(values, stored.classes, size, at), cut(full, stored.classes, at)
            near = (np.abs(full.max(0) - at) <= 1 / 255) | tied
            assert np.array_equal(found[~near], wanted[~near])
            assert (found != wanted).mean() < 0.02, "what rounding to 8 bits can change"
            exactly = (np.abs(bytes_full - at) < 1e-6).any(0)  # at the threshold itself, where float32 decides
            without_script = cut(carried(values, size), stored.classes, at)
            assert np.array_equal(found[~exactly], without_script[~exactly])


def test_pictures_are_of_every_stage_in_the_order_of_the_recipe(done: RunResult, page: Page) -> None:
    (article, *_) = page.all("article")
    figures = page.within(article, "figure")
    captions = [" ".join(page.within(f, "figcaption")[0].text.split()) for f in figures]
    stages = [f.attributes["data-what"] for f in figures]
    assert stages[0] == "photo"
    assert stages[-3:] == ["labels"] * 3
    assert [c.split()[0].rstrip("0123456789.") for c in captions[-3:]] == ["crf", "refined", "masks"]
    assert any(c.startswith("seeds of maps at") for c in captions)
    assert captions[stages.index("truth")] == "ground truth"


def test_chosen_images_come_first_and_random_ones_follow_the_seed(done: RunResult, tmp_path: Path) -> None:
    pages = [
        written(tmp_path / "x.html", done.path, choice=ImageChoice((VOID,), each=0, random=4, seed=seed)).text("h3")
        for seed in (0, 0, 1)
    ]
    assert pages[0][0].startswith(f"{VOID} chosen")
    assert pages[0] == pages[1] != pages[2]
    assert sum("random, seed 0" in h for h in pages[0]) == 4


def test_two_runs_are_compared_on_the_same_images(done: RunResult, tmp_path: Path) -> None:
    recipe = yaml.safe_load((done.path / "recipe.yaml").read_text())
    recipe["stages"]["maps"]["blur"] = 0
    path = tmp_path / "sharp.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    sharp = run(str(path), out=done.path.parent / "sharp")
    page = written(tmp_path / "two.html", done.path, sharp.path)
    check_alone_and_accessible(page)
    rows = [text for text in page.text("tr") if text.startswith(("runmaps", "sharpmaps"))]
    assert len(rows) == 6, "two runs at three kinds of threshold"
    for result, name in ((done, "run"), (sharp, "sharp")):
        value = next(
            r.value for r in result.metrics if (r.stage, r.metric, r.threshold_kind) == ("maps", "miou", "oracle")
        )
        assert any(line.startswith(f"{name}maps") and f"{value:.1f}" in line for line in rows)


def test_time_memory_recipe_and_environment_are_shown(done: RunResult, page: Page) -> None:
    costs = [text for text in page.text("tr") if text.endswith(("MB", "GB"))]
    for finished, line in zip(done.stages, costs, strict=True):
        assert line.startswith(finished.stage.name)
    assert page.text("dt")[3:] == sorted(page.text("dt")[3:])
    assert "torch" in page.text("dt")
    fingerprint = read_json(done.path / "environment.json")["data"]["all"]
    assert page.text("dd")[page.text("dt").index("data all")] == fingerprint
    recipe = next(pre for pre in page.all("pre") if "stages:" in pre.text).text
    assert yaml.safe_load(recipe) == yaml.safe_load((done.path / "recipe.yaml").read_text())


def test_what_cannot_be_reported_is_reported(done: RunResult, tmp_path: Path) -> None:
    with refused(StageError, "nowhere is not a run", "recipe.yaml"):
        write_report([tmp_path / "nowhere"], tmp_path / "x.html")
    path = copied(done, tmp_path)
    (path / "masks").unlink()
    with refused(StageError, f"'masks' of {path}", "not finished", "tag2mask run", "recipe.yaml"):
        write_report([path], tmp_path / "x.html")
    with refused(ConfigError, "is named twice", "name each once"):
        write_report([done.path, done.path / ".." / done.path.name], tmp_path / "x.html")
    with refused(ConfigError, "name at least one run"):
        write_report([], tmp_path / "x.html")
    with refused(DataError, "--image 'photo 4'", "no such image", "did you mean 'photo 04'?"):
        write_report([done.path], tmp_path / "x.html", ImageChoice(("photo 4",)))
    assert not (tmp_path / "x.html").exists()


def test_a_run_that_has_measured_nothing_is_reported(done: RunResult, tmp_path: Path) -> None:
    only = run(str(done.path / "recipe.yaml"), out=tmp_path / "runs" / "only", only=["maps"])
    assert not only.report.exists()
    assert (only.reported, done.reported) == (False, True)
    with refused(StageError, "neither seeds nor masks", "nothing to report"):
        write_report([only.path], tmp_path / "x.html")


def test_files_that_are_gone_are_reported(done: RunResult, tmp_path: Path) -> None:
    path = copied(done, tmp_path)
    (path / "maps-seeds" / "curve.csv").write_text("spoilt")
    with refused(StageError, "'maps-seeds'", "gone or changed", "tag2mask run"):
        write_report([path], tmp_path / "x.html")


def test_photos_other_than_those_that_were_measured_are_reported(done: RunResult, tmp_path: Path) -> None:
    shutil.copytree(done.path.parent.parent / "data", tmp_path / "data")
    path = copied(done, tmp_path)
    for folder in ("images", "masks"):
        photo = tmp_path / "data" / folder / f"{VOID}.png"
        photo.rename(photo.with_name("another.png"))
    tags = tmp_path / "data" / "tags.csv"
    tags.write_text(tags.read_text().replace(VOID, "another"))
    with refused(StageError, f"image '{VOID}'", "split 'all'", "--root", f"data.root={tmp_path / 'data'}"):
        write_report([OpenedRun(path, tmp_path / "data")], tmp_path / "x.html")


def test_where_it_is_written_is_checked_first(done: RunResult, tmp_path: Path) -> None:
    foreign = tmp_path / "thesis.html"
    foreign.write_text("<html>mine</html>")
    with refused(ConfigError, "thesis.html exists", "not a page of tag2mask", "nothing was changed"):
        write_report([done.path], foreign)
    assert foreign.read_text() == "<html>mine</html>"
    with refused(ConfigError, "is a folder", "name a file", "report.html"):
        write_report([done.path], tmp_path)
    with refused(StageError, "cannot write", "thesis.html is not a folder"):
        write_report([done.path], foreign / "x.html")
    out = tmp_path / "new" / "page.html"
    first = write_report([done.path], out, ImageChoice(random=0))
    assert write_report([done.path], out, ImageChoice(random=4)) > first, "its own page is replaced"
    assert [p.name for p in out.parent.iterdir()] == ["page.html"]


def test_data_without_masks_is_shown_at_random_with_a_slider(done: RunResult, tmp_path: Path) -> None:
    photos = tmp_path / "data"
    shutil.copytree(done.path.parent.parent / "data", photos)
    path = copied(done, tmp_path / "runs")
    recipe = yaml.safe_load((path / "recipe.yaml").read_text())
    recipe["data"]["root"] = str(photos)
    for name in ("few", "refined", "refined-score", "crf", "crf-score"):
        recipe["stages"].pop(name)
    for stage in recipe["stages"].values():
        stage.get("reads", {}).pop("threshold", None)
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    run(str(tmp_path / "bare.yaml"), out=tmp_path / "runs" / "warm", only=["maps"])  # drawn from the truth
    shutil.rmtree(photos / "masks")
    result = run(str(tmp_path / "bare.yaml"), out=tmp_path / "runs" / "bare")
    page = Page(result.report.read_text(encoding="utf-8"))
    check_alone_and_accessible(page)
    assert "This data has no masks, so nothing was measured: look at the pictures." in page.text("p")
    assert "Results" not in page.text("h2")
    assert len(page.all("article")) == 8
    assert page.text("option") == ["maps"]


def test_of_several_seeds_the_first_is_pictured_and_all_are_counted(done: RunResult) -> None:
    both = run(str(done.path / "recipe.yaml"), "seeds=[0,1]", out=done.path.parent / "seeds")
    part = run_part(OpenedRun(both.path), ImageChoice())
    assert {m.name for m in part.parts[0].methods} >= {"maps@0", "maps@1"}
    stages = {panel.stage for shown in part.parts[0].shown for panel in shown.panels}
    assert stages == {"", "maps@0"}


def test_the_more_pictures_the_smaller_they_are() -> None:
    found = [sizes(n) for n in (1, 300, 301, 3000, 5000, 5001, 7501, 10**6)]
    assert found == [(320, 128), (320, 128), (224, 96), (160, 64), (128, 48), (96, 32), (72, 24), (48, 16)]


@pytest.mark.slow
@pytest.mark.parametrize("stages", [15, 24, 30])
def test_500_images_of_many_stages_stay_below_30_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: int
) -> None:
    maps = stages // 3
    monkeypatch.setattr(report_page, "IMAGES", 20)  # of 500 alike
    monkeypatch.setattr(report_page, "sizes", lambda _n: sizes(500 * stages))
    monkeypatch.setattr(report_page, "MAPS", tuple(f"maps {i}" for i in range(maps)))
    monkeypatch.setattr(report_page, "LABELS", tuple(f"labels {i}" for i in range(stages - maps)))
    _pictures, size = report_page.page(tmp_path / "page.html")
    assert 500 / 20 * size < 30e6


@pytest.mark.parametrize(("per", "words"), [("class", "one per class"), ("image", "one per image")])
def test_thresholds_of_classes_or_images_are_named_and_drawn(
    done: RunResult, tmp_path: Path, per: str, words: str
) -> None:
    chosen: dict[str, dict[str, object]] = {
        "few": {"kind": "rule", "n": None, "rule": "otsu", "per": per},
        "maps-seeds": {"threshold": 0.2},
    }
    (tmp_path / "data").symlink_to(done.path.parent.parent / "data")
    recipe = yaml.safe_load(few_masks_recipe(tmp_path, chosen).read_text(encoding="utf-8"))
    del recipe["stages"]["few"]["n"]
    (tmp_path / "rule.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    result = run(str(tmp_path / "rule.yaml"), out=tmp_path / "runs" / "rule", only=["maps-seeds"])
    page = Page(result.report.read_text(encoding="utf-8"))
    check_alone_and_accessible(page)
    assert f"maps, rule(otsu/{per}) threshold, {words}" in page.text("summary")
    assert "maps, no threshold" not in page.text("summary")
    shown = run_part(OpenedRun(result.path), ImageChoice()).parts[0].shown
    assert shown
    for one in shown:
        (panel,) = [p for p in one.panels if p.caption == f"seeds of maps, threshold {words}"]
        assert panel.what == "labels"
        assert panel.note.endswith(" mIoU")
    assert any(p.layers for one in shown for p in one.panels if p.caption.startswith("seeds of maps"))


@pytest.mark.slow
def test_a_page_of_500_images_stays_below_30_megabytes(tmp_path: Path) -> None:
    result = run(
        str(few_masks_recipe(tmp_path, n=500)), out=tmp_path / "runs" / "many", only=["maps-seeds", "masks-score"]
    )
    out = tmp_path / "many.html"
    assert write_report([result.path], out, ImageChoice(random=500)) < 30e6
    page = Page(out.read_text(encoding="utf-8"))
    assert len(page.all("article")) == 500
    check_alone_and_accessible(page)
