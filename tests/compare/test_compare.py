"""Comparisons of runs on maps drawn from the truth: numbers that agree with the runs', who is left out, refusals."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from tag2mask.api import run
from tag2mask.compare import compare
from tag2mask.compare.compare import Comparison, compare_runs
from tag2mask.compare.image_counts import Counted
from tag2mask.compare.stages import OneSeed, Side
from tag2mask.compare.tables import pair_lines
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.files import read_json
from tag2mask.core.palette import read_labels, write_labels
from tag2mask.core.types import Sample
from tag2mask.data.registry import data_settings, open_split
from tag2mask.evaluation.bootstrap import ImageCounts, label_counts
from tag2mask.evaluation.confusion import confusion_matrix
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.thresholds import Threshold, cut
from tag2mask.inference.maps_file import read_maps
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import CLASSES
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.pictures import Drawn, drawn_by
from tests.helpers.refused import refused

RESAMPLES = 300


def maps(blur: int = 2) -> dict[str, object]:
    return {"kind": "drawn-maps", "blur": blur}


def seeds(of: str, threshold: float = 0.2, **more: object) -> dict[str, object]:
    return {"kind": "seeds", "reads": {"maps": of}, "threshold": threshold, **more}


def made(folder: Path, name: str, stages: Mapping[str, object], n: int = 12, *words: str) -> RunResult:
    """A run of these stages on drawn images, the same ones for all runs below one folder."""
    path = few_masks_recipe(folder, n=n)
    content = yaml.safe_load(path.read_text())
    content["stages"] = stages
    content["allow_supervision"] = ["tags", "pixel-masks:threshold(3)"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return run(str(path), *words, out=folder / "runs" / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def sharp(folder: Path) -> RunResult:
    return made(folder, "sharp", {"maps": maps(0), "other": maps(1), "s": seeds("maps"), "t": seeds("other")})


@pytest.fixture(scope="module")
def blurred(folder: Path) -> RunResult:
    return made(folder, "blurred", {"maps": maps(4), "s": seeds("maps", 0.3)})


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    """The figures that `found` has drawn."""
    return []


@pytest.fixture(scope="module")
def found(sharp: RunResult, blurred: RunResult, folder: Path, drawn: list[Drawn]) -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        figures = drawn_by(compare, patch)
        made = compare_runs([sharp.path, blurred.path], out=folder / "out", resamples=RESAMPLES)
    drawn += figures
    return made


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def measured(result: RunResult, stage: str, metric: str) -> dict[str, float]:
    """Kind of threshold -> the run's own number."""
    return {r.threshold_kind: r.value for r in result.metrics if (r.stage, r.metric) == (stage, metric) and r.value}


def test_the_numbers_are_those_that_the_runs_measured(
    found: Comparison, sharp: RunResult, blurred: RunResult, folder: Path
) -> None:
    assert [p.line.threshold_kind for p in found.pairs] == ["fixed", "oracle"]
    for pair in found.pairs:
        line, kind = pair.line, pair.line.threshold_kind
        assert (line.first, line.second, line.split, line.n_images) == ("sharp/s", "blurred/s", "all", 12)
        assert line.first_miou == pytest.approx(measured(sharp, "maps", "miou")[kind], abs=1e-4)
        assert line.second_miou == pytest.approx(measured(blurred, "maps", "miou")[kind], abs=1e-4)
        assert line.difference == pytest.approx(line.second_miou - line.first_miou, abs=2e-4)
        for side, result in (("first", sharp), ("second", blurred)):
            for metric in ("miou_foreground", "f1_foreground"):
                own = measured(result, "maps", metric)[kind]
                assert getattr(line, f"{side}_{metric}") == pytest.approx(own, abs=1e-4)
            assert getattr(line, f"{side}_iou_2px") == measured(result, "maps", "iou@2px").get(kind)
        trivial = {(r.stage, r.metric): r.value for r in sharp.metrics}
        assert line.all_background_miou == pytest.approx(trivial["all background", "miou"], abs=1e-4)
        for metric in ("miou", "miou_foreground", "f1_foreground"):
            assert getattr(line, f"random_tag_{metric}") == pytest.approx(trivial["random own tag", metric], abs=1e-4)
        assert line.low <= line.difference <= line.high < 0  # drawn maps are the sharper the better
        assert line.sign_changes == 0
        assert (line.first_sd, line.difference_sd, line.resamples) == (None, None, RESAMPLES)
        assert [c.label for c in pair.classes] == ["background", *CLASSES]
        for c in pair.classes:
            assert c.first_iou == pytest.approx(measured(sharp, "maps", f"iou/{c.label}")[kind], abs=1e-4)
            assert c.difference == pytest.approx(c.second_iou - c.first_iou, abs=2e-4)
    assert (found.pairs[0].line.first_threshold, found.pairs[0].line.second_threshold) == ("0.2", "0.3")
    words = f"tag2mask compare {sharp.path} {blurred.path} --out "
    assert found.pairs[0].line.command.startswith(words)
    assert found.pairs[0].line.command.endswith(" --resamples 300")


def test_each_image_is_scored_by_itself(found: Comparison, sharp: RunResult, folder: Path) -> None:
    own = {line["image"]: float(line["miou"]) for line in lines(sharp.path / "s" / "images.csv")}
    images = found.pairs[0].images
    assert {i.image: i.first_miou for i in images} == pytest.approx(own)
    differences = [i.difference for i in images]
    assert differences == sorted(differences, reverse=True)
    # one image by hand, from the file of maps
    worst = images[-1]
    stored = read_maps(folder / "runs" / "blurred" / "maps" / "maps" / f"{worst.image}.npz").maps
    truth = read_labels(folder / "data" / "masks" / f"{worst.image}.png")
    labels = cut(stored.resize(*truth.shape).maps.numpy(), stored.classes, 0.3)
    matrix = confusion_matrix(labels, truth, 4)
    assert worst.second_miou == pytest.approx(SegmentationScores.from_matrix(matrix, CLASSES).miou, abs=1e-4)


def test_the_files_hold_the_same(found: Comparison, drawn: list[Drawn], sharp: RunResult) -> None:
    table, classes, images, picture = found.files
    assert [p.name for p in found.files[:3]] == ["compare.csv", "compare-classes.csv", "compare-images.csv"]
    assert float(lines(table)[0]["difference"]) == found.pairs[0].line.difference
    assert len(lines(classes)) == 2 * 4
    assert len(lines(images)) == 2 * 12
    assert picture.name == "compare-sharp-s-blurred-s.png"
    (figure,) = drawn
    assert figure.path == picture
    changes = [(i.difference, i.image) for i in found.pairs[0].images]
    largest = [*sorted(c for c in changes if c[0] > 0)[:-4:-1], *sorted(c for c in changes if c[0] < 0)[:3]]
    assert figure.check(OpenedRun(sharp.path).maps("maps").dataset) == [name for _, name in largest]
    assert lines(table)[0]["first_ledger"] == lines(table)[0]["second_ledger"]


def test_a_run_against_itself_differs_nowhere(sharp: RunResult, folder: Path) -> None:
    shutil.copytree(sharp.path, folder / "runs" / "twin", symlinks=True)
    same = compare_runs([sharp.path, folder / "runs" / "twin"], stages=["maps"], out=folder / "same", resamples=50)
    for pair in same.pairs:
        assert (pair.line.difference, pair.line.low, pair.line.high, pair.line.sign_changes) == (0, 0, 0, 1)
        assert {i.difference for i in pair.images} == {0.0}
    assert len(same.files) == 3, "there is nothing to draw"


def test_two_stages_of_one_run_and_one_of_each_run(sharp: RunResult, blurred: RunResult, folder: Path) -> None:
    one = compare_runs([sharp.path], stages=["t", "s"], out=folder / "one", resamples=50, images=0)
    assert {(p.line.first, p.line.second) for p in one.pairs} == {("t", "s")}
    assert one.pairs[0].line.difference > 0
    assert len(one.files) == 3
    each = compare_runs([blurred.path, sharp.path], stages=["s", "other"], out=folder / "each", resamples=50)
    line = each.pairs[0].line
    assert (line.first, line.second) == ("blurred/s", "sharp/t")  # 'other' is what 't' measures
    assert line.second_miou == pytest.approx(measured(sharp, "other", "miou")["fixed"], abs=1e-4)


def test_three_sides_are_held_against_the_first(sharp: RunResult, blurred: RunResult, folder: Path) -> None:
    third = made(folder, "third", {"maps": maps(2), "s": seeds("maps")})
    three = compare_runs([blurred.path, sharp.path, third.path], out=folder / "three", resamples=50, images=0)
    assert [(p.line.first, p.line.second) for p in three.pairs] == [
        ("blurred/s", "sharp/s"), ("blurred/s", "sharp/s"), ("blurred/s", "third/s"), ("blurred/s", "third/s"),
    ]  # fmt: skip


def test_images_that_a_threshold_saw_are_left_out_on_both_sides(sharp: RunResult, folder: Path) -> None:
    stages = {
        "maps": maps(4),
        "few": {"kind": "few-masks", "reads": {"maps": "maps"}, "n": 3},
        "s": {"kind": "seeds", "reads": {"maps": "maps", "threshold": "few"}, "threshold": 0.2},
    }
    few = made(folder, "few", stages)
    both = compare_runs([sharp.path, few.path], stages=["s"], out=folder / "seen", resamples=50)
    assert [p.line.threshold_kind for p in both.pairs] == ["fixed", "oracle"]  # of few-masks there is but one side
    seen = set(read_json(few.path / "few" / "threshold.json")["ids"])
    for pair in both.pairs:
        assert pair.line.n_images == 9
        assert {i.image for i in pair.images}.isdisjoint(seen)
    # the sharp side was measured on 12 images: its numbers, the oracle included, are found again on 9
    line = both.pairs[1].line
    assert line.second_miou == pytest.approx(measured(few, "maps", "miou")["oracle"], abs=1e-4)
    again = made(folder, "sharp-nine", {**stages, "maps": maps(0)})
    assert line.first_miou == pytest.approx(measured(again, "maps", "miou")["oracle"], abs=1e-4)
    assert line.first_miou != pytest.approx(measured(sharp, "maps", "miou")["oracle"], abs=1e-4)
    assert line.first_ledger.split() == line.second_ledger.split() == ["pixel-masks:threshold(9)"]
    assert line.command.endswith(f"--stage s --out {folder / 'seen'} --resamples 50")
    fixed = both.pairs[0].line
    assert (fixed.first_ledger, fixed.second_ledger) == ("", "")  # the few masks chose another threshold
    chosen = compare_runs([few.path, again.path], stages=["s"], out=folder / "chosen", resamples=50).pairs
    ledgers = {p.line.threshold_kind: (p.line.first_ledger, p.line.second_ledger) for p in chosen}
    assert ledgers["few-masks(3)"] == ("pixel-masks:threshold(3)",) * 2


def test_masks_are_compared_as_they_are(folder: Path, sharp: RunResult) -> None:
    """Masks at a threshold of kind fixed stand beside seeds of the same kind."""
    stages = {
        "maps": maps(1),
        "crf": {"kind": "seed-crf", "reads": {"maps": "maps"}, "threshold": 0.2},
        "c": {"kind": "masks", "reads": {"masks": "crf"}},
    }
    masks = made(folder, "masks", stages)
    both = compare_runs([sharp.path, masks.path], stages=["s", "c"], out=folder / "masks", resamples=50)
    (pair,) = both.pairs
    assert pair.line.threshold_kind == "fixed"
    assert pair.line.second_miou == pytest.approx(measured(masks, "crf", "miou")["fixed"], abs=1e-4)
    assert pair.line.second_threshold == "0.2"


def test_several_seeds_of_a_run_are_opened(folder: Path, sharp: RunResult) -> None:
    several = made(folder, "several", {"maps": maps(4), "s": seeds("maps", 0.3)}, 12, "seeds=[0,3]")
    both = compare_runs([sharp.path, several.path], out=folder / "several", resamples=50, images=0)
    line = both.pairs[0].line
    assert (line.first_seeds, line.second_seeds, line.second_threshold) == ("0", "0 3", "0.3 0.3")
    assert (line.second_sd, line.difference_sd) == (0.0, None)  # drawn maps are the same for each seed


def counted(name: str, numbers: list[int], per_seed: list[list[list[list[int]]]]) -> Counted:
    """A side of seeds ``numbers`` with a confusion matrix for each image of each."""
    data = open_split("parts", data_settings("parts", {"images": 4}), "train")
    data.classes, data.samples = ("cat",), [Sample("a", (0,)), Sample("b", ())]
    nothing = Artefact(name, Path(), "", lambda *_: "")
    one = tuple(OneSeed(n, nothing, nothing, {}) for n in numbers)
    side = Side(name, Makes.MAPS, data, one, frozenset({"tags"}), frozenset({"tags"}))
    counts = tuple(ImageCounts.of([label_counts(np.array(m)) for m in images]) for images in per_seed)
    return Counted(side, tuple(Threshold(0.3) for _ in numbers), counts, ("a", "b"))


RIGHT, HALF, MISSED = [[10, 0], [0, 10]], [[10, 0], [5, 5]], [[10, 0], [10, 0]]


def test_seeds_give_means_deviations_and_paired_differences() -> None:
    first = counted("A", [0, 1], [[HALF, HALF], [MISSED, MISSED]])
    second = counted("B", [0, 1], [[RIGHT, RIGHT], [HALF, HALF]])
    mious = {"right": 100.0, "half": (100 * 10 / 15 + 50) / 2, "missed": 25.0}
    line = pair_lines(first, second, "fixed", "x", 50).line
    assert line.first_miou == pytest.approx((mious["half"] + mious["missed"]) / 2, abs=1e-4)
    assert line.second_miou == pytest.approx((mious["right"] + mious["half"]) / 2, abs=1e-4)
    assert line.first_sd == pytest.approx((mious["half"] - mious["missed"]) / math.sqrt(2), abs=1e-4)
    by_seed = mious["right"] - mious["half"], mious["half"] - mious["missed"]
    assert line.difference == pytest.approx(sum(by_seed) / 2, abs=1e-4)
    assert line.difference_sd == pytest.approx(abs(by_seed[0] - by_seed[1]) / math.sqrt(2), abs=1e-4)
    assert (line.low, line.high) == pytest.approx((line.difference, line.difference), abs=1e-4)  # all images are alike
    assert (line.first_miou_foreground, line.second_miou_foreground) == (25, 75)  # the cat alone: 50 and 0, 100 and 50
    assert (line.difference_foreground, line.low_foreground, line.high_foreground) == (50, 50, 50)
    half = 100 * 2 * 5 / 15  # precision 1, recall 1/2
    assert line.first_f1_foreground == pytest.approx(half / 2, abs=1e-4)
    assert line.second_f1_foreground == pytest.approx((100 + half) / 2, abs=1e-4)
    assert line.all_background_miou == 25  # 20 of 40 pixels, and no cat
    # "a" is all cat, "b" has no tag: background 10 of 30 in either, cat 10 of 30
    assert line.random_tag_miou == pytest.approx(100 / 3, abs=1e-4)
    assert line.random_tag_miou_foreground == pytest.approx(100 / 3, abs=1e-4)
    assert line.random_tag_f1_foreground == pytest.approx(50, abs=1e-4)
    other = counted("B", [0, 2], [[RIGHT, RIGHT], [HALF, HALF]])
    assert pair_lines(first, other, "fixed", "x", 50).line.difference_sd is None


def test_sides_of_other_masks_are_refused() -> None:
    first = counted("A", [0], [[RIGHT, RIGHT]])
    moved = counted("B", [0], [[RIGHT, [[9, 0], [0, 11]]]])
    with refused(DataError, "A and B", "ground truth differs", "image 'b'"):
        pair_lines(first, moved, "fixed", "x", 50)


def test_stages_and_runs_that_are_not_there(sharp: RunResult, blurred: RunResult, folder: Path) -> None:
    pair = [sharp.path, blurred.path]
    with refused(ConfigError, "sharp", "'ss'", "did you mean 's'?", "Known: s, t"):
        compare_runs(pair, stages=["ss"])
    with pytest.raises(ConfigError, match="blurred: unknown measured stage 't'"):
        compare_runs(pair, stages=["t"])
    with refused(ConfigError, "3 stages for 2 runs", "--stage once"):
        compare_runs(pair, stages=["s", "s", "s"])
    with refused(ConfigError, "one run,", "sharp", "name two", "Measured: s, t"):
        compare_runs([sharp.path], stages=["s"])
    with pytest.raises(ConfigError, match="one run is named twice"):
        compare_runs([sharp.path, sharp.path])
    with pytest.raises(StageError, match="nothing is not a run"):
        compare_runs([sharp.path, folder / "nothing"])
    with refused(ConfigError, "images = -1", "resamples = 10000", "images of 0 or more"):
        compare_runs(pair, images=-1)
    other = made(folder, "names", {"maps": maps(1), "u": seeds("maps")})
    with refused(ConfigError, "in all runs", "sharp: s, t;", "names: u)"):
        compare_runs([sharp.path, other.path])
    (other.path / "u").unlink()
    with refused(StageError, "'u'", "names", "not finished", "tag2mask run"):
        compare_runs([sharp.path, other.path], stages=["s", "u"])


def test_stages_without_a_miou_and_names_of_two(folder: Path, sharp: RunResult) -> None:
    refined = {"kind": "refined-seeds", "reads": {"maps": "maps"}}
    stages = {
        "maps": maps(1), "r": refined, "r-score": {"kind": "masks", "reads": {"masks": "r"}, "unsure": True},
        "low": seeds("maps", 0.1), "high": seeds("maps", 0.5, threshold_kind="published"),
    }  # fmt: skip
    both = folder / "runs" / "both"  # refused before anything is opened: its recipe is enough
    both.mkdir()
    content = yaml.safe_load((sharp.path / "recipe.yaml").read_text())
    (both / "recipe.yaml").write_text(yaml.safe_dump({**content, "stages": stages}, sort_keys=False))
    for name in ("r", "r-score"):
        with refused(ConfigError, f"'{name}'", "both has no mIoU", "Measured: low, high"):
            compare_runs([both], stages=["low", name])
    with refused(ConfigError, "'maps'", "both", "several stages: high, low", "name one"):
        compare_runs([sharp.path, both], stages=["s", "maps"])
    no_oracle = made(
        folder, "one-kind", {"maps": maps(1), "p": seeds("maps", threshold_kind="published", oracle=False)}
    )
    fixed = made(folder, "fixed", {"maps": maps(1), "s": seeds("maps", oracle=False)})
    with refused(ConfigError, "threshold in common", "fixed/s: fixed", "one-kind/p: published"):
        compare_runs([fixed.path, no_oracle.path], stages=["s", "p"])


def test_other_images_classes_and_splits_are_refused(sharp: RunResult, tmp_path: Path) -> None:
    fewer = made(tmp_path, "fewer", {"maps": maps(1), "s": seeds("maps")}, 5)
    with refused(ConfigError, "images differ", "12 and 5", "'photo 05'"):
        compare_runs([sharp.path, fewer.path])
    root = sharp.path.parents[1] / "data"
    two = made(
        tmp_path, "two", {"maps": maps(1), "s": seeds("maps")}, 5, "data.classes=[disc,square]", f"data.root={root}"
    )
    with refused(ConfigError, "classes differ", "3 and 2", "'stripe'"):
        compare_runs([sharp.path, two.path])
    listed = tmp_path / "runs" / "list"
    (root / "splits").mkdir(exist_ok=True)
    (root / "splits" / "some.txt").write_text("".join(f"{p.stem}\n" for p in sorted((root / "images").iterdir())))
    some = made(tmp_path, listed.name, {"maps": maps(1), "s": seeds("maps")}, 5, "data.infer=some", f"data.root={root}")
    with refused(ConfigError, "split differ", "1 and 1", "'all'"):
        compare_runs([sharp.path, some.path])


def test_data_without_ground_truth(tmp_path: Path) -> None:
    done = made(tmp_path, "a", {"maps": maps(1), "s": seeds("maps")}, 5)
    other = made(tmp_path, "b", {"maps": maps(2), "s": seeds("maps")}, 5)
    name = next((tmp_path / "data" / "masks").iterdir())
    write_labels(name, np.zeros_like(read_labels(name)))  # both read the new mask: still the same truth
    assert compare_runs([done.path, other.path], resamples=20).pairs[0].line.n_images == 5
    shutil.rmtree(tmp_path / "data" / "masks")
    with refused(DataError, "'all'", "no image", "ground truth"):
        compare_runs([done.path, other.path])
    (done.path / "s" / "metrics.jsonl").write_text("")
    with refused(DataError, "'s'", "measured nothing", "no ground truth"):
        compare_runs([done.path, other.path])


def test_a_threshold_of_each_image_is_the_one_that_was_measured(folder: Path) -> None:
    stages = {
        "maps": maps(4), "other": maps(1), "a": {"kind": "rule", "reads": {"maps": "maps"}, "per": "image"},
        "b": {"kind": "rule", "reads": {"maps": "other"}, "per": "image"},
        "s": {"kind": "seeds", "reads": {"maps": "maps", "threshold": "a"}},
        "t": {"kind": "seeds", "reads": {"maps": "other", "threshold": "b"}},
    }  # fmt: skip
    ruled = made(folder, "ruled", stages)
    both = compare_runs([ruled.path], stages=["s", "t"], out=folder / "ruled", resamples=20)
    line = both.pairs[0].line
    assert line.threshold_kind == "rule(otsu/image)"
    assert line.first_threshold == "one per image"
    assert line.first_miou == pytest.approx(measured(ruled, "maps", "miou")["rule(otsu/image)"], abs=1e-4)
    assert line.second_miou == pytest.approx(measured(ruled, "other", "miou")["rule(otsu/image)"], abs=1e-4)
    assert len(both.files) == 4  # pictures are cut at these thresholds too
