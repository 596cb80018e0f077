"""What the pixels of no class are: a setting of the data that all follow, or a decision that a run makes and keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import tag2mask
from tag2mask.api import run
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError, DataError, LedgerError, StageError
from tag2mask.core.files import read_json
from tag2mask.data.registry import load_dataset
from tag2mask.methods.registry import stage_kinds
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.refused import refused
from tests.helpers.seam_kinds import registered

STAGES: Mapping[str, Any] = {
    "maps": {"kind": "brightness"},
    "tally": {"kind": "tally", "reads": {"maps": "maps"}},
    "refined": {"kind": "refined-seeds", "reads": {"maps": "maps"}, "crf": {"iterations": 1}},
    "crf": {"kind": "seed-crf", "reads": {"maps": "maps"}, "crf": {"iterations": 1}},
    "masks": {"kind": "pseudo-masks", "reads": {"maps": "maps"}},
    "seeds": {"kind": "seeds", "reads": {"maps": "maps"}},
    "score": {"kind": "masks", "reads": {"masks": "masks"}},
}
DATA = {"kind": "parts", "scenes": "patchwork", "images": 32, "size": 64}
CUTS = ("refined", "crf", "masks")


@pytest.fixture(autouse=True, scope="module")
def kinds() -> Iterator[None]:
    with registered():
        yield


def recipe(folder: Path, stages: Mapping[str, Any] = STAGES, data: Mapping[str, Any] = DATA, **top: Any) -> str:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "data": dict(data), "stages": dict(stages), **top}, sort_keys=False))
    return str(path)


def made(folder: Path, *words: str, out: str = "own", **changes: Any) -> RunResult:
    path = recipe(folder, **changes)
    return run(path, "engine.device=cpu", "engine.workers=0", *words, out=folder / "runs" / out)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    folder = tmp_path_factory.mktemp("ground")
    return {
        word: made(folder, *([f"data.background={word}"] if word else []), out=word or "plain")
        for word in ("", "none", "auto")
    }


def keys(result: RunResult) -> dict[str, str]:
    return {one.stage.name: one.artefact.key for one in result.stages}


def test_without_a_background_no_label_is_0(done: dict[str, RunResult]) -> None:
    opened = tag2mask.open_run(done["none"].path)
    for name in CUTS:
        for sample, labels in opened.masks(name):
            allowed = {c + 1 for c in sample.tags} | ({255} if name == "refined" else set())
            assert set(np.unique(labels).tolist()) <= allowed
            if len(sample.tags) == 1:
                assert (labels == sample.tags[0] + 1).all()
    rows = [row for row in opened.metrics if row.stage == "maps" and row.metric == "miou"]
    assert [row.threshold_kind for row in rows] == ["fixed"], "no threshold matters, so there is no best one"
    plain = tag2mask.open_run(done[""].path)
    assert any((labels == 0).any() for _, labels in plain.masks("masks"))


def test_only_what_follows_the_background_is_made_anew(done: dict[str, RunResult]) -> None:
    plain, none = keys(done[""]), keys(done["none"])
    assert {name for name in plain if plain[name] != none[name]} == {*CUTS, "seeds", "score"}
    assert plain["maps"] == none["maps"]


def test_a_decision_gives_the_keys_of_the_setting_and_is_kept(done: dict[str, RunResult]) -> None:
    auto, none = keys(done["auto"]), keys(done["none"])
    assert set(auto) - set(none) == {"background"}
    assert {name: auto[name] for name in none} == none
    kept = read_json(done["auto"].path / "background" / "background.json")
    assert kept["background"] == "none"
    assert kept["scores"]["parted"] > 0.95
    again = run(str(done["auto"].path / "recipe.yaml"), out=done["auto"].path)
    assert keys(again) == auto


def test_whoever_opens_the_run_knows_the_decision_and_why(done: dict[str, RunResult]) -> None:
    opened = tag2mask.open_run(done["auto"].path)
    masks = opened.artefact("masks")
    assert masks.background == "none"
    assert "data.background=present" in masks.choices()["background"]
    assert opened.dataset("masks").background == "none"
    assert opened.dataset("maps").background == "present"
    page = (done["auto"].path / "report.html").read_text(encoding="utf-8")
    assert "hardest of all pairs" in page


def test_the_decision_is_the_first_thing_that_is_made(done: dict[str, RunResult]) -> None:
    plan = make_plan(load_recipe(str(done["auto"].path / "recipe.yaml")))
    names = [stage.name for stage in plan.stages]
    following = [s for s in plan.stages if s.kind.follows_background]
    assert {s.name for s in following} == {*CUTS, "seeds"}
    assert all(s.reads["background"] == "background" for s in following)
    assert all(names.index("background") < names.index(s.name) for s in following)
    assert make_plan(plan.recipe).recipe == plan.recipe, "a resolved recipe resolves to itself"


def test_a_damaged_decision_is_named(done: dict[str, RunResult]) -> None:
    path = done["auto"].path / "background" / "background.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole.replace(b"none", b"pres", 1))
        with refused(StageError, "background"):
            tag2mask.open_run(done["auto"].path).artefact("masks")
    finally:
        path.write_bytes(whole)


def test_kinds_that_cut_or_train_on_cuts_follow_the_background() -> None:
    """Every kind that makes masks of maps or measures them, and those that learn from masks or say what is context."""
    following = {name for name, kind in stage_kinds().items() if kind.follows_background}
    cutting = {n for n, k in stage_kinds().items() if k.threshold is not None and k.makes is not Makes.WEIGHTS}
    assert following >= cutting >= {"refined-seeds", "seed-crf", "pseudo-masks", "seeds"}
    assert following >= {"amn", "amn-maps", "irn", "prototypes", "segmenter", "few-masks"}


@pytest.mark.parametrize("colour", ["white", "black"])
def test_white_or_black_pixels_are_of_no_class(tmp_path: Path, colour: str) -> None:
    folder = tmp_path / "photos"
    value = {"white": 255, "black": 0}[colour]
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            photo = np.full((16, 20, 3), 90 + 20 * number, np.uint8)
            photo[:4] = value
            Image.fromarray(photo).save(folder / name / f"{name}{number}.png")
    data = {"kind": "folder", "root": str(folder), "val": None, "background": colour}
    stages = {name: STAGES[name] for name in ("maps", *CUTS)}
    opened = tag2mask.open_run(made(tmp_path, stages=stages, data=data).path)
    for name in CUTS:
        for sample, labels in opened.masks(name):
            assert not labels[:4].any()
            assert (labels[4:] == sample.tags[0] + 1).all()


def test_a_sidecar_says_where_anything_is_and_stands_in_the_ledger(tmp_path: Path) -> None:
    scenes = load_dataset("parts", None, "train", **{k: v for k, v in DATA.items() if k != "kind"} | {"images": 4})
    for sample in scenes.samples:
        where = np.zeros(scenes.image(sample).size[::-1], np.uint8)
        where[:, 10:] = 255
        (tmp_path / "where").mkdir(exist_ok=True)
        Image.fromarray(where).save(tmp_path / "where" / f"{sample.id}.png")
    data = {**DATA, "images": 4, "background": "foreground", "sidecars": {"foreground": str(tmp_path / "where")}}
    stages = {name: STAGES[name] for name in ("maps", *CUTS)}
    result = made(tmp_path, stages=stages, data=data)
    opened = tag2mask.open_run(result.path)
    for name in CUTS:
        assert opened.artefact(name).ledger() == {"foreground"}
        assert opened.artefact(name).sidecars == ("foreground",)
        for _, labels in opened.masks(name):
            assert not labels[:, :9].any()
            assert labels[:, 11:].all()
    trained = {**stages, "irn": {"kind": "irn", "reads": {"seeds": "refined"}, "backbone": {"weights": "none"}}}
    with refused(LedgerError, "'irn'", "foreground", "allow_supervision"):
        made(tmp_path, stages=trained, data=data)
    with refused(DataError, "'foreground'", "data.sidecars.foreground=FOLDER"):
        made(tmp_path, stages=stages, data={**data, "sidecars": {}}, out="without")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenes": "lines"}, ("data.background = none", "one class", "'crack'", "data.background=present")),
        ({"scenes": "lookalikes"}, ("data.background = none", "split 'train'", "no tag", "data.background=present")),
    ],
    ids=["one class", "untagged images"],
)
def test_data_that_cannot_be_without_background_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    with refused(DataError, *words):
        made(tmp_path, data={**DATA, **changes, "images": 12, "background": "none"})


def test_learned_is_refused_of_maps_that_know_no_background(tmp_path: Path) -> None:
    stages = {"maps": STAGES["maps"], "masks": {**STAGES["masks"], "background": "learned"}}
    with refused(ConfigError, "masks.background = learned", "'maps'", "amn-maps", "masks.background=constant"):
        make_plan(load_recipe(recipe(tmp_path, stages)))
    amn = {
        "amn": {"kind": "amn", "reads": {"seeds": "refined"}},
        "amn-maps": {"kind": "amn-maps", "reads": {"amn": "amn"}},
        "masks": {**STAGES["masks"], "reads": {"maps": "amn-maps"}, "background": "learned"},
    }
    make_plan(load_recipe(recipe(tmp_path, {"maps": STAGES["maps"], "refined": STAGES["refined"], **amn})))
    amn["amn-maps"] = {**amn["amn-maps"], "normalise": "minmax"}
    with refused(ConfigError, "masks.background = learned", "'amn-maps'", "normalise=learned"):
        make_plan(load_recipe(recipe(tmp_path, {"maps": STAGES["maps"], "refined": STAGES["refined"], **amn})))


def test_the_name_of_the_deciding_stage_is_free_where_it_is_taken(tmp_path: Path) -> None:
    data = {**DATA, "background": "auto"}
    taken = {"background": STAGES["maps"], "masks": {**STAGES["masks"], "reads": {"maps": "background"}}}
    with refused(ConfigError, "data.background = auto", "'background'", "another name"):
        make_plan(load_recipe(recipe(tmp_path, taken, data)))
    own = {"ground": {"kind": "background", "images": 8}, **STAGES}
    plan = make_plan(load_recipe(recipe(tmp_path, own, data)))
    assert plan.stage("masks").reads["background"] == "ground"
    assert "background" not in plan.recipe.stages
