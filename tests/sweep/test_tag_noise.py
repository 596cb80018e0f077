"""What wrong tags cost, on maps that are drawn from the truth for the tags as given: no training, exact damage."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from tag2mask.api import run
from tag2mask.core.errors import ConfigError
from tag2mask.data.registry import load_dataset
from tag2mask.data.tag_noise import count_noise
from tag2mask.sweep.tag_noise import DamageLine, NoiseResult, measure_tag_noise
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused

STAGES = {
    "maps": {"kind": "drawn-maps", "blur": 0},
    "maps-seeds": {"kind": "seeds", "reads": {"maps": "maps"}, "threshold": 0.4},
}


def recipe(folder: Path) -> Path:
    path = few_masks_recipe(folder)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "stages": STAGES}))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NoiseResult]:
    folder = tmp_path_factory.mktemp("noise")
    clean = run(str(recipe(folder)), out=folder / "runs" / "clean")
    assert clean.metrics
    return folder, measure_tag_noise(
        str(folder / "drawn.yaml"), levels=(0.3, 0.6), seed=1, out=folder / "runs" / "noise"
    )


def of(found: NoiseResult, noise: str, threshold_kind: str = "fixed") -> list[DamageLine]:
    return [d for d in found.lines if (d.noise, d.threshold_kind, d.metric) == (noise, threshold_kind, "miou")]


def test_every_level_stands_beside_the_clean_run(done: tuple[Path, NoiseResult]) -> None:
    folder, found = done
    assert found.failed == ()
    for noise in ("drop", "flip"):
        for threshold_kind in ("fixed", "oracle"):
            mine = of(found, noise, threshold_kind)
            assert [d.level for d in mine] == [0, 0.3, 0.6]
            assert (mine[0].change, mine[0].removed, mine[0].added) == (0, 0, 0)
            assert all(
                d.clean == mine[0].value and d.change == pytest.approx(d.value - d.clean, abs=2e-4) for d in mine
            )
            assert mine[2].change <= mine[1].change < 0  # what is dropped or flipped has no map of its own
    assert {(d.metric, d.method, d.split, d.n_images, d.seeds) for d in found.lines} == {
        (metric, "maps", "all", 12, 1) for metric in ("miou", "miou_foreground", "f1_foreground")
    }
    clean = run(str(folder / "drawn.yaml"), out=folder / "runs" / "clean").metrics
    fixed = next(r.value for r in clean if (r.metric, r.threshold_kind) == ("miou", "fixed"))
    assert of(found, "drop")[0].value == pytest.approx(fixed, abs=1e-4)


def test_what_the_noise_did_is_counted(done: tuple[Path, NoiseResult]) -> None:
    folder, found = done
    where = (folder / "data", "train")
    right = load_dataset("folder", *where, tags="tags.csv")
    for noise in ("drop", "flip"):
        for line in of(found, noise):
            wrong = load_dataset("folder", *where, tags="tags.csv", tag_noise={noise: line.level, "seed": 1})
            count = count_noise(right.samples, wrong.samples)
            assert (line.tags, line.removed, line.added, line.emptied) == (
                count.tags, count.removed, count.added, count.emptied,
            )  # fmt: skip
        assert line.removed > 0


def test_files_hold_what_was_found(done: tuple[Path, NoiseResult]) -> None:
    folder, found = done
    table = folder / "runs" / "noise.csv"
    assert found.files[0] == table
    with table.open(encoding="utf-8", newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [float(line["change"]) for line in written] == [d.change for d in found.lines]
    assert {"noise-drop", "noise-flip"} == {p.parent.name for p in found.files[1:]}
    sweeps = [p for p in (folder / "runs").glob("noise-*/*") if p.suffix in {".csv", ".svg", ".md"}]
    assert set(found.files[1:]) == set(sweeps)
    command = of(found, "flip")[1].command
    assert command.startswith(f"tag2mask run {folder}/drawn.yaml 'data.tag_noise={{seed: 1}}' data.tag_noise.flip=0.3")


def test_a_recipe_with_noise_of_null_can_be_used_again(done: tuple[Path, NoiseResult], tmp_path: Path) -> None:
    folder, found = done
    resolved = folder / "runs" / "clean" / "recipe.yaml"
    assert yaml.safe_load(resolved.read_text())["data"]["tag_noise"] is None
    again = measure_tag_noise(str(resolved), kinds=["drop"], levels=[0.3], seed=1, out=tmp_path / "runs" / "noise")
    assert [d.value for d in of(again, "drop")] == [d.value for d in of(found, "drop")[:2]]


def test_wrong_levels_and_kinds_are_refused(tmp_path: Path) -> None:
    path = str(recipe(tmp_path))
    with refused(ConfigError, "'flipp'", "did you mean 'flip'"):
        measure_tag_noise(path, kinds=["flipp"])
    for levels in ([0.1, 1.5], [0]):
        with refused(ConfigError, f"level = {levels[-1]}", "above 0 and below 1"):
            measure_tag_noise(path, levels=levels)
    with refused(ConfigError, "'data.tag_noise.drop=0.1'", "give --level"):
        measure_tag_noise(path, "data.tag_noise.drop=0.1")
