"""Thresholds by rule in a run: chosen without a truth, for all, for each class or image, and read downstream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tag2mask.api import run
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.files import read_json
from tag2mask.core.palette import write_labels
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.evidence import agreement, histogram
from tag2mask.evaluation.threshold_rules.rules import choose_thresholds, find_rule, rules_of
from tag2mask.evaluation.thresholds import Threshold, cut
from tag2mask.label_images.cutting import PhotoMaps, crf_seeds, refine_seeds
from tag2mask.methods.artefact import Artefact, FewMasks, Ruled
from tag2mask.methods.registry import stage_kind
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import RunResult
from tag2mask.thresholds.kinds import ErasureSettings, RuleSettings, sampled, tagged
from tag2mask.thresholds.stages import choose_by_rule
from tag2mask.thresholds.threshold_of import threshold_of
from tests.helpers.draw import draw_folder
from tests.helpers.drawn_maps import drawn_maps_kind  # noqa: F401  a fixture
from tests.helpers.refused import refused

MARGIN = 0.12


def recipe(folder: Path, stages: dict[str, Any]) -> str:
    """A recipe of these stages on 9 drawn images, with nothing but tags allowed."""
    if not (folder / "data").exists():
        draw_folder(folder / "data", 9)
    content = {
        "name": "ruled",
        "data": {"kind": "folder", "root": str(folder / "data"), "tags": "tags.csv", "images": "images", "val": None},
        "engine": {"device": "cpu", "threads": 1},
        "allow_supervision": ["tags"],
        "stages": stages,
    }
    path = folder / "ruled.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def chain(per: str, rule: str = "otsu") -> dict[str, Any]:
    """A rule of that scope, and everything that reads a threshold behind it."""
    reads = {"maps": "maps", "threshold": f"rule-{per}"}
    return {
        f"rule-{per}": {"kind": "rule", "reads": {"maps": "maps"}, "rule": rule, "per": per},
        f"seeds-{per}": {"kind": "seeds", "reads": reads},
        f"crf-{per}": {"kind": "seed-crf", "reads": reads},
        f"refined-{per}": {"kind": "refined-seeds", "reads": reads, "margin": MARGIN},
        f"masks-{per}": {"kind": "pseudo-masks", "reads": reads},
        f"masks-{per}-score": {"kind": "masks", "reads": {"masks": f"masks-{per}"}},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("ruled")
    stages: dict[str, Any] = {"maps": {"kind": "drawn-maps"}, "other": {"kind": "drawn-maps", "blur": 1}}
    for per in ("data", "class", "image"):
        stages |= chain(per)
    stages["views"] = {"kind": "rule-agreement", "reads": {"maps": "maps", "other": "other"}}
    return run(recipe(folder, stages), out=folder / "runs" / "run")


def artefact(result: RunResult, name: str) -> Artefact:
    return next(s.artefact for s in result.stages if s.stage.name == name)


def dataset_of(result: RunResult) -> Dataset:
    run = OpenedRun(result.path)
    return run.split(run.plan.data.infer)


def ruled(result: RunResult, name: str) -> Ruled:
    found = artefact(result, name).threshold()
    assert isinstance(found, Ruled)
    return found


def test_thresholds_are_what_the_rule_finds_in_the_stored_maps(done: RunResult) -> None:
    dataset, maps, other = dataset_of(done), artefact(done, "maps"), artefact(done, "other")
    found = {s.id: maps.maps(dataset, s) for s in dataset.samples}
    images = [histogram(i, m.classes, m.maps.numpy()) for i, m in found.items()]
    expected = choose_thresholds(rules_of("histogram"), images, 3)["otsu"]
    assert ruled(done, "rule-data") == Ruled(expected.whole, "otsu", "data", 9)
    per_class = ruled(done, "rule-class")
    assert per_class.classes == tuple(zip(dataset.classes, expected.classes, strict=True))
    assert len({value for _, value in per_class.classes}) > 1
    assert dict(ruled(done, "rule-image").images) == expected.images
    assert len(expected.images) == 9
    views = [
        agreement(s.id, s.tags, found[s.id].maps.numpy(), other.maps(dataset, s).maps.numpy()) for s in dataset.samples
    ]
    assert ruled(done, "views").value == choose_thresholds([find_rule("agreement")], views, 3)["agreement"].whole


def test_a_rule_adds_nothing_to_the_ledger(done: RunResult) -> None:
    for name in ("rule-data", "rule-class", "rule-image", "views", "masks-image"):
        finished = next(s for s in done.stages if s.stage.name == name)
        assert finished.manifest.ledger == ()
        assert finished.artefact.masks_seen() == frozenset()


def test_what_reads_a_rule_s_threshold_is_cut_at_it(done: RunResult) -> None:
    dataset, maps = dataset_of(done), artefact(done, "maps")
    for per in ("data", "class", "image"):
        chosen = ruled(done, f"rule-{per}").as_threshold()
        for sample in dataset.samples[:4]:
            image = np.array(dataset.image(sample))
            found = maps.maps(dataset, sample)
            level = chosen.of(sample.id, found.classes)
            photo = PhotoMaps(image, found.classes, found.maps.numpy(), (level,))
            expected = cut(found.resize(*image.shape[:2]).maps.numpy(), found.classes, level)
            np.testing.assert_array_equal(artefact(done, f"masks-{per}").labels(dataset, sample), expected)
            (crf,) = crf_seeds([photo])
            np.testing.assert_array_equal(artefact(done, f"crf-{per}").labels(dataset, sample), crf)
            both = (np.minimum(1, level + MARGIN), np.maximum(0, level - MARGIN))
            (refined,) = refine_seeds([replace(photo, levels=both)])
            np.testing.assert_array_equal(artefact(done, f"refined-{per}").labels(dataset, sample), refined)


def test_measured_numbers_name_the_rule_and_agree(done: RunResult) -> None:
    kinds = {"data": "rule(otsu)", "class": "rule(otsu/class)", "image": "rule(otsu/image)"}
    rows = {(r.stage, r.threshold_kind): r for r in done.metrics if r.metric == "miou"}
    for per, kind in kinds.items():
        masks = rows[f"masks-{per}", kind]
        seeds = next(
            r
            for s in done.stages
            if s.stage.name == f"seeds-{per}"
            for r in done.metrics
            if (r.stage, r.threshold_kind, r.metric) == ("maps", kind, "miou")
        )
        assert (seeds.value, seeds.n_images) == (masks.value, 9), "pseudo-masks are the seeds at the same threshold"
        expected = ruled(done, "rule-data").value if per == "data" else None
        assert masks.threshold == seeds.threshold == expected
    assert {r.threshold_kind for r in done.metrics if r.stage == "maps"} == {*kinds.values(), "fixed", "oracle"}


def test_a_threshold_survives_its_file(tmp_path: Path) -> None:
    one = Artefact("rule", tmp_path, "key", lambda dataset, sample: "")
    for found in (
        Ruled(0.3, "otsu", "data", 5),
        Ruled(0.3, "otsu", "class", 5, (("a", 0.2), ("b", None))),
        Ruled(0.3, "otsu", "image", 5, images=(("x", 0.25), ("y", 0.5))),
        FewMasks(0.37, 2, ("a", "b"), 50.0),
    ):
        found.write(tmp_path)
        assert one.threshold() == found
    Ruled(0.3, "otsu", "class", 5, (("a", 0.2), ("b", None))).write(tmp_path)
    behind = threshold_of(Artefact("m", tmp_path, "key", lambda dataset, sample: "", reads={"threshold": one}))
    assert behind == Threshold(None, "rule", rule="otsu/class")
    np.testing.assert_allclose(behind.of("x", (0, 1)), [0.2, 0.3], rtol=1e-6)


def test_another_truth_does_not_touch_a_rule_and_another_image_does(tmp_path: Path) -> None:
    stages = {
        "maps": {"kind": "drawn-maps"},
        "rule": {"kind": "rule", "reads": {"maps": "maps"}},
        "seeds": {"kind": "seeds", "reads": {"maps": "maps", "threshold": "rule"}},
    }
    path = recipe(tmp_path, stages)
    first = run(path, out=tmp_path / "runs" / "run")
    mask = sorted((tmp_path / "data" / "masks").glob("*.png"))[0]
    write_labels(mask, np.zeros_like(dataset_of(first).truth(dataset_of(first).samples[0])))
    second = run(path, out=tmp_path / "runs" / "run")
    assert artefact(second, "rule").key == artefact(first, "rule").key
    assert artefact(second, "seeds").key != artefact(first, "seeds").key
    (tmp_path / "data" / "images" / f"{mask.stem}.png").unlink()
    mask.unlink()
    lines = (tmp_path / "data" / "tags.csv").read_text().splitlines()
    (tmp_path / "data" / "tags.csv").write_text("\n".join(line for line in lines if mask.stem not in line) + "\n")
    third = run(path, out=tmp_path / "runs" / "run")
    assert artefact(third, "rule").key != artefact(first, "rule").key
    assert ruled(third, "rule").n == 8


class Tagged(Dataset):
    """Images with tags and no truth; opening one would be an error."""

    name, split, classes, has_truth = "tagged", "all", ("a", "b", "c"), False

    def __init__(self, n: int) -> None:
        self.samples = [Sample(f"im{i:03}", ((), (0,), (1,), (0, 1))[i % 4]) for i in range(n)]

    def image(self, sample: Sample) -> Any:
        raise AssertionError("no image is needed")

    def truth(self, sample: Sample) -> Any:
        raise AssertionError("a rule looks at no truth")


def fake(read: Callable[[Sample], ActivationMaps], out: Path, settings: RuleSettings, n: int = 8) -> Any:
    dataset = Tagged(n)
    maps = SimpleNamespace(name="maps", maps=lambda dataset, sample, scores: read(sample))
    return SimpleNamespace(
        rank=0, name="rule", settings=settings, dataset=dataset, reads={"maps": maps}, out=out, engine=None
    )


def flat(value: float) -> Callable[[Sample], ActivationMaps]:
    return lambda sample: ActivationMaps(sample.tags, torch.full((len(sample.tags), 3, 4), value))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rule", [rule.name for rule in rules_of("histogram")])
def test_maps_that_hold_one_value_give_an_error_that_says_so(tmp_path: Path, rule: str, value: float) -> None:
    with refused(DataError, f"rule '{rule}'", "maps of 'maps'", "6 images"):
        choose_by_rule(fake(flat(value), tmp_path, RuleSettings(rule=rule)))
    assert not list(tmp_path.iterdir())


def test_no_ground_truth_is_opened_and_images_without_tags_do_not_matter(tmp_path: Path) -> None:
    def read(sample: Sample) -> ActivationMaps:
        assert sample.tags, "without tags there is no map to look at"
        return ActivationMaps(sample.tags, torch.tensor([[[0.2, 0.8]]]).repeat(len(sample.tags), 1, 1))

    choose_by_rule(fake(read, tmp_path, RuleSettings(per="class")))
    assert read_json(tmp_path / "threshold.json") == {
        "value": 0.5, "rule": "otsu", "per": "class", "n": 6, "images": [],
        "classes": [["a", 0.5], ["b", 0.5], ["c", None]], "spreads": [],
    }  # fmt: skip
    nobody = fake(read, tmp_path / "other", RuleSettings())
    nobody.rank = 1
    choose_by_rule(nobody)
    assert not (tmp_path / "other").exists()


def test_the_classifier_is_asked_about_a_fixed_part_of_the_images() -> None:
    dataset = Tagged(80)
    few = tagged(ErasureSettings(images=10), dataset)
    assert [s.id for s in few] == sorted(s.id for s in few)
    assert len(few) == 10
    assert all(s.tags for s in few)
    more = Tagged(90)
    assert len({s.id for s in tagged(ErasureSettings(images=10), more)} - {s.id for s in few}) <= 8, "of 7 added ones"
    assert {s.id for s in few} < {s.id for s in tagged(ErasureSettings(images=20), dataset)}
    per_class = sampled([s for s in dataset.samples if s.tags], 5, per_class=True)
    assert all(sum(c in s.tags for s in per_class) >= 5 for c in (0, 1))
    assert len(per_class) <= 10
    assert len(tagged(ErasureSettings(images=10, per="image"), dataset)) == 60
    assert len(tagged(RuleSettings(), dataset)) == 60


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("rule", {"rule": "otso"}, "'x.rule' = 'otso' … unknown rule 'otso' … did you mean 'otsu'"),
        ("rule", {"rule": "agreement"}, "unknown rule 'agreement'"),
        ("rule-agreement", {"rule": "otsu"}, "unknown rule 'otsu'. Known: agreement"),
        ("rule-classifier", {"images": 0}, "setting 'x.images' = 0"),
        ("rule", {"per": "pixel"}, "setting 'x.per' = 'pixel'"),
    ],
)
def test_settings_that_are_refused(kind: str, values: dict[str, Any], text: str) -> None:
    with refused(ConfigError, text):
        validate(stage_kind(kind).settings, values, "x")


@pytest.mark.parametrize(
    ("kind", "role"), [("rule-agreement", "other"), ("rule-classifier", "classifier"), ("rule", "maps")]
)
def test_what_a_rule_needs_is_requested_before_anything_runs(tmp_path: Path, kind: str, role: str) -> None:
    reads = {} if role == "maps" else {"maps": "maps"}
    path = recipe(tmp_path, {"maps": {"kind": "drawn-maps"}, "x": {"kind": kind, "reads": reads}})
    with refused(ConfigError, f"'x.reads.{role}'", "the stage that makes the"):
        run(path, out=tmp_path / "runs" / "run")
    assert not (tmp_path / "runs" / ".store").exists()


def test_missing_maps_are_named(tmp_path: Path) -> None:
    def gone(sample: Sample) -> ActivationMaps:
        raise StageError(f"stage 'maps' has no maps of image '{sample.id}'")

    with pytest.raises(StageError, match="has no maps of image 'im001'"):
        choose_by_rule(fake(gone, tmp_path, RuleSettings()))
