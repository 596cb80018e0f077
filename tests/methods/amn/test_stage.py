"""AMN in a run: from drawn maps over refined seeds to its maps, and what a run refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tag2mask.analysis.absent_classes import analyse_tags, conditioned_predictor
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.backbones.files import WEIGHTS, load_network, save_network
from tag2mask.config.recipe import load_recipe
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, DataError, LedgerError, StageError, WeightsError
from tag2mask.core.palette import write_labels
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn.maps import class_maps, merged_logits
from tag2mask.methods.amn.network import build_amn, load_amn, plain_weights, save_amn
from tag2mask.methods.amn.settings import AmnMapsSettings
from tag2mask.methods.amn.stage import program, train
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import stage_kind
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.preflight import preflight
from tag2mask.pipeline.run_result import RunResult
from tag2mask.training.label_images import at_grid
from tests.backbones.make import network
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.refused import refused
from tests.helpers.results import read_results
from tests.methods.amn.drawn import settings
from tests.methods.irn.drawn import data, seeds
from tests.training.toy import Drawn, engine

LEAVE = "allow_supervision=[tags,pixel-masks:threshold(3)]"
TRAIN = {"epochs": 1, "batch_size": 4, "accumulate": 2, "crop": 48}
STAGES: dict[str, dict[str, Any]] = {
    "amn": {
        "kind": "amn",
        "reads": {"seeds": "refined"},
        "backbone": {"name": "test_efficientnet", "weights": "none", "stride": 8},
        "train": TRAIN,
    },
    "amn-maps": {"kind": "amn-maps", "reads": {"amn": "amn"}, "scales": [1.0, 0.5], "normalise": "minmax"},
    "amn-seeds": {"kind": "seeds", "reads": {"maps": "amn-maps"}},
    "amn-features": {"kind": "amn-features", "reads": {"amn": "amn"}},
}


def started(tmp: Path, *words: str, **changes: dict[str, Any]) -> RunResult:
    """A run on six drawn images."""
    with registered():
        path = few_masks_recipe(tmp, {name: {**spec, **changes.get(name, {})} for name, spec in STAGES.items()}, n=6)
        return run(str(path), LEAVE, *words, out=tmp / "run")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return started(tmp_path_factory.mktemp("amn"))


def test_a_run_measures_amns_maps(done: RunResult) -> None:
    (row,) = [r for r in done.metrics if (r.stage, r.metric, r.threshold_kind) == ("amn-maps", "miou", "fixed")]
    with registered():
        again = evaluate_run(done.path, stages=["amn-maps"], thresholds=[row.threshold or 0])
    assert row.value is not None
    assert [r.value for r in again if (r.metric, r.threshold_kind) == ("miou", "fixed")] == [row.value]
    ledgers = {s.stage.name: s.manifest.ledger for s in done.stages}
    assert ledgers["amn"] == ledgers["amn-maps"] == ("pixel-masks:threshold(3)", "tags")


def test_supervision_that_the_recipe_does_not_allow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"stage 'amn' would use pixel-masks:threshold\(3\)"):
        started(tmp_path, "allow_supervision=[tags]")


def test_features_are_amns_under_its_plain_weights(done: RunResult) -> None:
    paths = {s.stage.name: s.artefact.path for s in done.stages}
    amn, classes = load_amn(paths["amn"] / WEIGHTS)
    net, named = load_network(paths["amn-features"] / WEIGHTS)
    assert named == classes
    image = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(net.features(image), amn.body(image))
    assert torch.equal(net.class_weights(), plain_weights(amn))


def maps_settings(**values: Any) -> AmnMapsSettings:
    return validate(AmnMapsSettings, values, "amn-maps")


def artefact(path: Path, name: str = "refined") -> Artefact:
    """Files whose key is the id of their image."""
    return Artefact(name, path, "key", lambda _dataset, sample: sample.id)


def context(
    tmp: Path, dataset: Dataset, values: Settings, reads: dict[str, Artefact], name: str = "amn"
) -> StageContext[Any]:
    return StageContext(stage_kind("amn"), name, values, reads, dataset, tmp / "out", 0, engine())


def write_seeds(folder: Path, images: Drawn) -> Artefact:
    for sample in images.samples:
        write_labels(folder / "refined" / "masks" / f"{sample.id}.png", seeds(sample), sample.id)
    return artefact(folder / "refined")


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Artefact]:
    """A saved network with random weights, and refined seeds of all images."""
    torch.manual_seed(0)
    save_amn(build_amn(settings(), 3), tmp_path / "net" / WEIGHTS, ("class 0", "class 1", "class 2"))
    return {"amn": artefact(tmp_path / "net", "amn"), "seeds": write_seeds(tmp_path, data())}


@pytest.mark.parametrize("how", ["minmax", "learned", "background-prior"])
@pytest.mark.parametrize("mirror", [True, False])
def test_maps_are_the_mean_logits_of_scales_and_mirror(
    tmp_path: Path, made: dict[str, Artefact], how: Any, mirror: bool
) -> None:
    images = data()
    values = maps_settings(scales=(1.0, 0.5), mirror=mirror, normalise=how)
    steps = program(context(tmp_path, images, values, made))
    net, _ = load_amn(made["amn"].path / WEIGHTS)
    for sample in (images.samples[1], images.samples[3]):
        (found,) = steps.compute([steps.prepare(sample)])
        tags = torch.zeros(1, 3)
        tags[0, list(sample.tags)] = 1
        logits = []
        for scale in (1.0, 0.5):
            image = image_tensor(images.image(sample), scaled(*images.size, scale), net.mean, net.std)[None]
            with torch.no_grad():
                views = [net(image, tags), net(image.flip(-1), tags)]
            logits.append(torch.cat(views) if mirror else views[0])
        background = at_grid(torch.from_numpy(seeds(sample) == 0), 16, 20)
        expected = class_maps(merged_logits(logits, (16, 20)), torch.tensor(sample.tags), how, background)
        assert not isinstance(found, np.ndarray)
        assert found.classes == sample.tags
        torch.testing.assert_close(found.maps, expected, rtol=1e-4, atol=1e-4)
        if how == "minmax":
            assert torch.equal(found.maps.amax((1, 2)), torch.ones(len(sample.tags)))


def test_image_without_tags_has_no_maps_and_needs_no_pass(
    tmp_path: Path, made: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = program(context(tmp_path, data(), maps_settings(), made))
    monkeypatch.setattr("tag2mask.methods.amn.network.AmnNet.forward", None)
    (found,) = steps.compute([steps.prepare(data().samples[7])])
    assert not isinstance(found, np.ndarray)
    assert (found.classes, found.maps.shape) == ((), (0, 16, 20))


def test_background_prior_without_refined_seeds_is_refused_before_anything_is_made() -> None:
    values = {"kind": "amn-maps", "reads": {"amn": "amn"}, "normalise": "background-prior"}
    plan = make_plan(load_recipe("own-data-amn", [f"stages.amn-maps={json.dumps(values)}", "data=parts"]))
    with pytest.raises(ConfigError) as caught:
        preflight(plan)
    text = "stage 'amn-maps': normalise = background-prior needs refined seeds, but reads.seeds is not set"
    assert str(caught.value).startswith(text)


def test_background_of_seeds_of_another_size_is_refused(tmp_path: Path, made: dict[str, Artefact]) -> None:
    steps = program(context(tmp_path, data(), maps_settings(normalise="background-prior"), made))
    write_labels(made["seeds"].path / "masks" / "001.png", np.zeros((30, 40), np.uint8), "001")
    with refused(DataError, "'001' are 30 x 40 pixels", "image is 64 x 80"):
        steps.prepare(data().samples[1])


def test_missing_refined_seeds_name_the_image_and_the_command(tmp_path: Path, made: dict[str, Artefact]) -> None:
    (made["seeds"].path / "masks" / "004.png").unlink()
    with refused(StageError, "'refined' has no masks", "image '004'", "tag2mask run"):
        train(context(tmp_path, data(), settings(), made))
    assert not (tmp_path / "out" / WEIGHTS).exists()


def test_refined_seeds_of_another_run_are_refused(tmp_path: Path, made: dict[str, Artefact]) -> None:
    write_labels(made["seeds"].path / "masks" / "004.png", seeds(data().samples[4]), "other")
    with refused(StageError, "image '004'", "'refined'", "from another image"):
        train(context(tmp_path, data(), settings(), made))


def test_checkpoint_is_taken_instead_of_a_training(tmp_path: Path, made: dict[str, Artefact]) -> None:
    torch.manual_seed(1)
    irn = {"name": "resnet50_irn", "weights": "none"}
    own = build_amn(settings(backbone=irn), 3).state_dict()
    names = {"body.": "resnet50.", "codes.4.": "label_enc.", "head.convs.": "classifier.1.c"}
    state = {new + k.removeprefix(old): v for k, v in own.items() for old, new in names.items() if k.startswith(old)}
    torch.save(state, tmp_path / "res50_amn.pth")
    values = settings(backbone=irn, checkpoint=tmp_path / "res50_amn.pth")
    train(context(tmp_path, data(), values, made))
    found, classes = load_amn(tmp_path / "out" / WEIGHTS)
    assert classes == data().classes
    assert all(torch.equal(v, own[k]) for k, v in found.state_dict().items())
    with refused(WeightsError, "res50_amn.pth", "3 classes", "has 4", "Use a checkpoint"):
        train(context(tmp_path, Drawn([(0,)], n_classes=4), values, made))


def test_the_stage_begins_with_the_classifier_that_it_reads(tmp_path: Path) -> None:
    images = data()
    given = network(seed=5, stride=8)
    save_network(given, tmp_path / "classifier" / WEIGHTS, images.classes)
    reads = {"seeds": write_seeds(tmp_path, images), "first": artefact(tmp_path / "classifier", "classifier")}
    values = settings(train={"lr": 1e-9, "head_lr": 1e-9})
    stage_kind("amn").load()(context(tmp_path, images, values, reads))
    trained, _ = load_amn(tmp_path / "out" / WEIGHTS)
    own = given.body.state_dict()
    for name, value in trained.body.state_dict().items():
        torch.testing.assert_close(value, own[name], atol=1e-5, rtol=0)


def test_order_of_images_and_the_others_change_no_map(tmp_path: Path, made: dict[str, Artefact]) -> None:
    steps = program(context(tmp_path, data(), maps_settings(scales=(1.0,)), made))
    samples: list[Sample] = list(data().samples[:3])
    together = steps.compute([steps.prepare(s) for s in samples])
    for sample, maps in zip(samples, together, strict=True):
        (alone,) = steps.compute([steps.prepare(sample)])
        assert not isinstance(maps, np.ndarray)
        assert not isinstance(alone, np.ndarray)
        assert torch.equal(maps.maps, alone.maps)


def test_absent_classes_are_measured_with_the_tags_that_the_maps_had(done: RunResult, tmp_path: Path) -> None:
    with registered():
        found = analyse_tags(done.path, out=tmp_path, images=100)
        opened = OpenedRun(done.path).maps("amn-maps")
        ask = conditioned_predictor(opened.artefact, opened.dataset, engine())
    values = {row.metric: row.value for row in found.numbers[0][1]}
    samples = [s for s in opened.dataset.samples if 0 < len(s.tags) < len(opened.dataset.classes)]
    shares = []
    for sample in samples:
        softmax = ask(sample, sample.tags)
        assert np.allclose(softmax.sum(0), 1, atol=1e-5)
        maps = opened.read(sample).maps.numpy()  # each class's softmax from its least value to its largest
        own = softmax[[c + 1 for c in sample.tags]]
        low, high = own.min((1, 2), keepdims=True), own.max((1, 2), keepdims=True)
        assert np.allclose(maps, (own - low) / (high - low), atol=2e-3)
        shares.append(own.mean((1, 2)).mean())
    assert values["present"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert set(found.files) == set(tmp_path.iterdir())
    lines = (tmp_path / "absent-classes-images.csv").read_text().splitlines()
    assert len(lines) == 1 + len(samples)
    again = {r.metric: r.value for r in read_results(tmp_path / "absent-classes.csv")}
    assert again == values


def test_an_unconditioned_network_does_not_hear_its_tags(tmp_path: Path) -> None:
    deaf = started(tmp_path, amn={"condition": []})
    with registered():
        found = analyse_tags(deaf.path, out=tmp_path / "out", images=2)
    values = {row.metric: row.value for row in found.numbers[0][1]}
    assert values["wrong_tag_wrong"] == values["absent_highest"]
    assert values["wrong_tag_present"] == values["present"]
    assert found.numbers[0][1][0].n_images <= 2
    assert "--images 2" in found.numbers[0][1][0].command


def test_stages_that_hear_no_tags_are_refused(done: RunResult, tmp_path: Path) -> None:
    with registered():
        with refused(ConfigError, "'maps' is of kind drawn-maps", "no tags", "expected one"):
            analyse_tags(done.path, stages=["maps"], out=tmp_path)
        with refused(ConfigError, "'amn-map'", "did you mean 'amn-maps'"):
            analyse_tags(done.path, stages=["amn-map"], out=tmp_path)
        with refused(ConfigError, "'amn' makes weights", "maps are needed"):
            analyse_tags(done.path, stages=["amn"], out=tmp_path)
