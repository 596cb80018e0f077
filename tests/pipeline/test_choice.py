"""A stage that chooses one of several artefacts: whatever reads it follows to the chosen one."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tag2mask.analysis.prototype_gallery import show_prototypes
from tag2mask.api import drop_prototype, run
from tag2mask.compare.compare import compare_runs
from tag2mask.config.recipe import Recipe
from tag2mask.core.errors import ConfigError, DamagedError, LedgerError, StageError
from tag2mask.core.files import read_json
from tag2mask.core.links import followed
from tag2mask.core.palette import read_labels
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.methods.artefact import Artefact, Choice
from tag2mask.methods.lpcam.kinds import dropped
from tag2mask.pipeline.export_run import masks_of_run
from tag2mask.pipeline.opened_run import open_run
from tag2mask.pipeline.plan import Plan, make_plan
from tag2mask.pipeline.run_result import RunResult
from tag2mask.segmentation.model import load
from tests.helpers import choosing, drawn_maps
from tests.helpers.refused import refused
from tests.helpers.tiny import TINY_NETWORK, files_of, launch
from tests.pipeline.test_extending import lay
from tests.segmentation.test_stage import SEGMENTER

CHOSEN, OTHER = "deeplab", "fpn"


def recipe(folder: Path, changes: dict[str, Any] | None = None, **top: Any) -> Path:
    """Two stages of maps and a choice, masks of it, two networks and a choice, predictions; all measured."""
    path = drawn_maps.few_masks_recipe(folder)
    values = yaml.safe_load(path.read_text())
    network: dict[str, Any] = {**SEGMENTER, "reads": {"masks": "masks"}}
    stages: dict[str, Any] = {
        "sharp": {"kind": "drawn-maps", "blur": 0},
        "soft": {"kind": "drawn-maps", "blur": 3},
        "best": {"kind": "larger-mean", "reads": {"a": "sharp", "b": "soft"}},
        "seeds": {"kind": "seeds", "reads": {"maps": "best"}},
        "soft-seeds": {"kind": "seeds", "reads": {"maps": "soft"}},
        "sharp-seeds": {"kind": "seeds", "reads": {"maps": "sharp"}},
        "masks": {"kind": "pseudo-masks", "reads": {"maps": "best"}, "threshold": 0.3},
        OTHER: {**network, "network": {**network["network"], "kind": "fpn"}},
        CHOSEN: network,
        "network": {"kind": "smaller-network", "reads": {"one": OTHER, "two": CHOSEN}},
        "predicted": {"kind": "predictions", "reads": {"segmenter": "network"}, "split": "all"},
        "predicted-score": {"kind": "masks", "reads": {"masks": "predicted"}},
        "own": {"kind": "predictions", "reads": {"segmenter": CHOSEN}, "split": "all"},
        "own-score": {"kind": "masks", "reads": {"masks": "own"}},
    }
    values["stages"] = {name: {**spec, **(changes or {}).get(name, {})} for name, spec in stages.items()}
    values["allow_supervision"] = ["tags", "pixel-masks:threshold(2)"]
    path.write_text(yaml.safe_dump(values | top, sort_keys=False))
    return path


@pytest.fixture(scope="module", autouse=True)
def kinds() -> Iterator[None]:
    with drawn_maps.registered(), choosing.registered():
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("choice")
    return run(str(recipe(folder)), out=folder / "runs" / "run")


def artefacts(result: RunResult) -> dict[str, Artefact]:
    return {s.stage.name: s.artefact for s in result.stages}


def test_the_choice_and_its_reasons_are_kept(done: RunResult) -> None:
    kept = read_json(done.path / "best" / "choice.json")
    assert kept["role"] == "b"
    assert kept["scores"]["b"] > kept["scores"]["a"] > 0
    assert kept["reasons"] == [f"mean {kept['scores']['b']:g} is the largest of 2"]
    made = {s.stage.name: s for s in done.stages}
    assert made["best"].manifest.made_from == {"a": made["sharp"].manifest.key, "b": made["soft"].manifest.key}
    assert made["best"].artefact.choice == Choice("b", tuple(kept["reasons"]), kept["scores"])


def test_whoever_reads_it_follows(done: RunResult) -> None:
    every = artefacts(done)
    assert (every["best"].name, every["best"].path) == ("best", every["soft"].path)
    assert every["best"].settings.blur == 3
    assert every["masks"].reads["maps"].settings.blur == 3
    numbers = {(r.stage, r.threshold_kind): r.value for r in done.metrics if r.metric == "miou"}
    assert numbers["best", "oracle"] == numbers["soft", "oracle"] != numbers["sharp", "oracle"]
    network = every[CHOSEN]
    assert (every["network"].path, every["network"].settings) == (network.path, network.settings)
    kind = network.settings.network.kind
    methods = {r.method for r in done.metrics if r.stage == "predicted"}
    assert methods == {f"predicted ({kind} on test_efficientnet, first weights none)"}


def test_what_it_looked_at_is_counted(done: RunResult) -> None:
    ledgers = {s.stage.name: s.manifest.ledger for s in done.stages}
    assert ledgers["predicted"] == ledgers["network"] == ("pixel-masks:threshold(2)",)
    assert ledgers[CHOSEN] == ()
    every = artefacts(done)
    assert every["network"].ledger() == {"pixel-masks:threshold(2)"}
    assert every["predicted"].masks_seen() == every["network"].masks_seen() == {"photo 00", "photo 01"}
    assert every["masks"].masks_seen() == every[CHOSEN].masks_seen() == frozenset()
    counts = {r.stage: r.n_images for r in done.metrics}
    assert (counts["predicted"], counts["best"]) == (10, 12), "what decided is not measured"


def test_predict_loads_the_chosen_network(done: RunResult) -> None:
    model, other = load(done.path, device="cpu"), load(done.path, stage=CHOSEN, device="cpu")
    photo = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    assert np.array_equal(model(photo).labels, other(photo).labels)
    assert (model.origin.stage, model.origin.ledger) == (CHOSEN, ("pixel-masks:threshold(2)",))
    assert [n.stage for n in model.origin.numbers] == ["predicted", "own"]
    assert [n.stage for n in other.origin.numbers] == ["own"]
    with pytest.raises(ConfigError, match="'fpm'.*did you mean 'fpn'"):
        load(done.path, stage="fpm")


def test_export_compare_and_report_follow(done: RunResult, tmp_path: Path) -> None:
    masks = masks_of_run(done.path)
    (first, *_) = masks.images
    made = followed(done.path / "predicted") / "masks" / f"{first.id}.png"
    assert np.array_equal(first.labels(), read_labels(made))
    both = compare_runs([done.path], stages=["seeds", "soft-seeds"], out=tmp_path / "c", resamples=20, images=0)
    assert both.pairs[0].line.difference == 0.0
    twice = compare_runs([done.path], stages=["predicted-score", "own-score"], resamples=20, images=0)
    (line,) = [pair.line for pair in twice.pairs]
    assert (line.difference, line.first_ledger, line.second_ledger) == (0.0, "pixel-masks:threshold(2)", "")
    page = html.unescape(done.report.read_text(encoding="utf-8"))
    kind = artefacts(done)["network"].settings.network.kind
    assert f"{kind} on test_efficientnet, first weights none" in page
    reasons = read_json(done.path / "best" / "choice.json")["reasons"]
    assert f"best: 'soft' is chosen: {reasons[0]}." in page
    assert f"network: '{CHOSEN}' is chosen: its file is smaller." in page


def test_a_choice_of_masks_is_exported_and_measured_as_what_it_chose(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    values = yaml.safe_load(path.read_text())
    cut = {"kind": "pseudo-masks", "reads": {"maps": "sharp"}}
    values["stages"] = {
        "sharp": values["stages"]["sharp"],
        "tight": {**cut, "threshold": 0.9},
        "loose": {**cut, "threshold": 0.1},
        "inner": {"kind": "last-masks", "reads": {"x": "tight", "y": "loose"}},
        "outer": {"kind": "last-masks", "reads": {"x": "tight", "y": "inner"}},
        "score": {"kind": "masks", "reads": {"masks": "outer"}},
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    result = run(str(path), out=tmp_path / "runs" / "run")
    (first, *_) = masks_of_run(result.path).images
    loose = followed(result.path / "loose") / "masks" / f"{first.id}.png"
    assert np.array_equal(first.labels(), read_labels(loose))
    (row,) = [r for r in result.metrics if r.metric == "miou" and r.stage not in TRIVIAL]
    assert (row.stage, row.threshold, row.threshold_kind) == ("outer", 0.1, "fixed")


def test_it_is_rerun_exactly_when_an_input_changes(done: RunResult) -> None:
    folder = done.path.parents[1]
    keys = {s.stage.name: s.manifest.key for s in done.stages}
    path = str(recipe(folder))
    again = run(path, out=done.path)
    assert {s.stage.name: (s.manifest.key, s.manifest.seconds) for s in again.stages} == {
        s.stage.name: (s.manifest.key, s.manifest.seconds) for s in done.stages
    }
    changed = run(path, "sharp.blur=1", out=folder / "runs" / "other", only=["masks"])
    found = {s.stage.name: s.manifest.key for s in changed.stages}
    assert {name for name, key in found.items() if key != keys[name]} == {"sharp", "best", "masks"}
    assert artefacts(changed)["best"].path == artefacts(done)["best"].path, "the same maps are chosen"


def test_a_damaged_choice_is_named_and_rerun(done: RunResult, tmp_path: Path) -> None:
    result = drawn_maps.copy_of(done.path, tmp_path)
    file = followed(result / "best") / "choice.json"
    whole = file.read_bytes()
    file.write_text(file.read_text().replace('"b"', '"a"'))
    with pytest.raises(StageError, match=r"best.*choice\.json"):
        masks_of_run(result, "masks")
    again = run(str(recipe(tmp_path)), f"data.root={done.path.parents[1] / 'data'}", out=result, only=["masks"])
    assert (file.read_bytes(), artefacts(again)["best"].settings.blur) == (whole, 3)
    file.write_text("{}")
    with pytest.raises(DamagedError, match=r"best.*choice\.json"):
        Choice.read(file.parent, "tag2mask run x")


def planned(tmp_path: Path, best: dict[str, Any], **stages: Any) -> Plan:
    values = yaml.safe_load(recipe(tmp_path, {"best": best}).read_text())
    values["stages"] |= stages
    return make_plan(Recipe.model_validate(values))


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ({"reads": {}}, ["best.reads", "maps"]),
        ({"reads": {"a": "masks"}}, ["best.reads.a", "'masks' makes masks", "maps are needed"]),
        ({"reads": {"A b": "soft"}}, ["best.reads.A b", "a-z"]),
        ({"reads": {"a": "sharpe"}}, ["best.reads.a", "sharpe", "did you mean 'sharp'"]),
    ],
)
def test_what_it_reads_is_checked(tmp_path: Path, best: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, best)
    assert [word for word in words if word not in str(caught.value)] == []


def test_files_of_several_splits_are_no_choice(tmp_path: Path) -> None:
    predicted = {"kind": "predictions", "reads": {"segmenter": "fpn"}, "split": "one"}
    choice = {"kind": "last-masks", "reads": {"a": "predicted", "b": "masks"}}
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, {}, predicted=predicted, either=choice)
    assert all(word in str(caught.value) for word in ("either", "'predicted' of split 'one'", "'masks' of split 'all'"))


def test_prototypes_that_a_choice_may_give_belong_to_the_network(tmp_path: Path) -> None:
    classifier, made = {"kind": "classifier"}, {"kind": "prototypes", "reads": {"maps": "sharp"}}
    stages = {
        "one": classifier,
        "two": classifier,
        "mine": {**made, "reads": {"classifier": "one", "maps": "sharp"}},
        "others": {**made, "reads": {"classifier": "two", "maps": "sharp"}},
        "either": {"kind": "last-prototypes", "reads": {"a": "mine", "b": "others"}},
        "lpcam": {"kind": "lpcam", "reads": {"classifier": "one", "prototypes": "either"}},
    }
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, {}, **stages)
    assert all(word in str(caught.value) for word in ("lpcam.reads.classifier", "'one'", "'two'", "'either'"))


def test_numbers_that_are_chosen_count_once(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    values = yaml.safe_load(path.read_text())
    stages = {name: values["stages"][name] for name in ("sharp", "soft", "soft-seeds", "sharp-seeds")}
    stages["scores"] = {"kind": "last-metrics", "reads": {"x": "soft-seeds", "y": "sharp-seeds"}}
    path.write_text(yaml.safe_dump(values | {"stages": stages}, sort_keys=False))
    result = run(str(path), out=tmp_path / "runs" / "run")
    opened = open_run(result.path)
    assert opened.metrics == result.metrics
    assert {row.stage for row in opened.metrics} == {"sharp", "soft", *TRIVIAL}
    assert opened.artefact("scores").path == opened.artefact("sharp-seeds").path
    assert opened.artefact("scores").choice == Choice("y", ("it comes last",))


def test_a_prototype_is_dropped_where_the_choice_is_read(tmp_path: Path) -> None:
    made = {"kind": "prototypes", "reads": {"classifier": "classifier", "maps": "cam"}, "tau": 0.3}
    stages = {
        "classifier": {"kind": "classifier"},
        "cam": {"kind": "cam", "reads": {"classifier": "classifier"}, "scales": [1.0]},
        "two": {**made, "n_prototypes": 2},
        "three": {**made, "n_prototypes": 3},
        "either": {"kind": "last-prototypes", "reads": {"a": "two", "b": "three"}},
        "lpcam": {"kind": "lpcam", "reads": {"classifier": "classifier", "prototypes": "either"}, "scales": [1.0]},
    }
    path = recipe(tmp_path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"stages": stages}, sort_keys=False))
    folder = run(str(path), *TINY_NETWORK, out=tmp_path / "runs" / "run").path
    with refused(ConfigError, "'two'", "--stage"):
        drop_prototype(folder, "disc", "foreground:0", "two")
    for name, prototype in (("three", "foreground:0"), ("either", "foreground:1")):
        drop_prototype(folder, "disc", prototype, name)
    stage = next(s for s in open_run(folder).stages.values() if s.name == "lpcam")
    assert dropped(stage.settings) == ("disc foreground:0", "disc foreground:1")
    assert show_prototypes(folder, "three").lines["disc"][0][3] == "dropped by hand"


def test_a_kind_that_chooses_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(recipe(tmp_path, {"best": {"kind": "wrong-choice"}}))
    with pytest.raises(StageError) as caught:
        run(path, out=tmp_path / "runs" / "run", only=["masks"])
    assert all(word in str(caught.value) for word in ("'best'", "'elsewhere'", "a, b", "wrong-choice"))


def test_a_training_on_a_choice_needs_what_the_choice_needs(tmp_path: Path) -> None:
    again = {**SEGMENTER, "reads": {"masks": "predicted"}, "split": "all"}
    values = yaml.safe_load(recipe(tmp_path, allow_supervision=["tags"]).read_text())
    values["stages"]["second"] = again
    path = tmp_path / "second.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(LedgerError) as caught:
        run(str(path), out=tmp_path / "runs" / "run")
    assert all(word in str(caught.value) for word in ("'second'", "pixel-masks:threshold(2)"))


@pytest.mark.slow
def test_two_processes_choose_once(done: RunResult, tmp_path: Path) -> None:
    modules = {"drawn": drawn_maps.__name__, "choosing": choosing.__name__}
    lay(tmp_path, "tag2mask-drawn", {}, {"methods": modules})
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([str(tmp_path), root, os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tag2mask"]
    words += ["run", str(recipe(tmp_path)), "--only", "masks", "--out", str(tmp_path / "runs" / "two")]
    made = launch(["env", f"PYTHONPATH={path}", *words])
    assert made.returncode == 0, made.stderr
    assert made.stderr.count("'soft' is chosen") == 1
    two, one = files_of(tmp_path / "runs" / "two"), files_of(done.path)
    assert len(two) == 37, "maps of two stages, masks, and the choice"
    assert two == {name: found for name, found in one.items() if name in two}
