"""Variants as one recipe: what is shared, what gets a name of its own, and whose words count."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError
from tag2mask.data.registry import load_dataset
from tag2mask.papers import variants as size
from tag2mask.papers.catalogue import StageRef, Variant
from tag2mask.papers.variants import SCENES, Scale, combine, default_data, small
from tests.helpers.draw import draw_folder, draw_voc
from tests.helpers.refused import refused

PLAIN = Variant("plain", "demo")
OTHER = Variant("other", "demo", ("prototypes.tau=0.3",))
THRESHOLD = Variant("cut", "demo", ("lpcam-seeds.threshold=0.7",))


def test_what_is_alike_is_one_stage_and_the_rest_is_renamed() -> None:
    found = combine("X", "about", {"a": StageRef(PLAIN, "lpcam"), "b": StageRef(OTHER, "lpcam")})
    assert found.stages == {"a": "lpcam", "b": "lpcam_other"}
    stages = found.recipe.stages
    assert set(stages) == {
        "classifier", "cam", "prototypes", "lpcam", "lpcam-seeds",
        "prototypes_other", "lpcam_other", "lpcam-seeds_other",
    }  # fmt: skip
    assert stages["lpcam_other"]["reads"] == {"classifier": "classifier", "prototypes": "prototypes_other"}
    assert (stages["prototypes"]["tau"], stages["prototypes_other"]["tau"]) == (0.1, 0.3)
    assert stages["lpcam-seeds_other"]["reads"] == {"maps": "lpcam_other"}
    assert (found.recipe.name, found.recipe.description) == ("X", "about")


def test_only_what_a_row_needs_is_made() -> None:
    found = combine("X", "", {"a": StageRef(PLAIN, "cam")})
    assert set(found.recipe.stages) == {"classifier", "cam", "cam-seeds"}


def test_words_reach_the_variants_that_have_the_stage() -> None:
    words = ["cam.scales=[1.0]", "lpcam-f.mirror=false", "seeds=[0,1]", "stages.lpcam.mirror=false"]
    irn = Variant("irn", "light-irn")  # has no lpcam-f
    found = combine("X", "", {"a": StageRef(irn, "lpcam"), "b": StageRef(PLAIN, "lpcam-f")}, [*SCENES, *words])
    stages = found.recipe.stages
    assert stages["cam"]["scales"] == [1.0]
    assert (stages["lpcam-f"]["mirror"], stages["lpcam"]["mirror"]) == (False, False)
    assert found.recipe.seeds == (0, 1)
    with pytest.raises(ConfigError, match="unknown setting 'cum.scales'. Known: .*cam, cam-seeds"):
        combine("X", "", {"a": StageRef(PLAIN, "cam")}, ["cum.scales=[1.0]"])


def test_a_word_that_sets_what_is_varied_is_refused() -> None:
    with refused(ConfigError, "'a' and 'b'", "the same", "what the experiment varies"):
        combine("X", "", {"a": StageRef(PLAIN, "lpcam"), "b": StageRef(OTHER, "lpcam")}, ["prototypes.tau=0.2"])
    with pytest.raises(ConfigError, match="'a' and 'b' would be the same"):  # another threshold measures the same maps
        combine("X", "", {"a": StageRef(PLAIN, "lpcam"), "b": StageRef(THRESHOLD, "lpcam")})


def test_scenes_are_taken_only_where_no_data_is_named() -> None:
    assert default_data(["data.images=20"], light=True).data == SCENES
    assert default_data(["cam.mirror=false"], light=True).data == SCENES
    assert default_data(["data=voc"], light=True) == Scale()
    assert default_data(["data.root=photos"], light=True) == Scale()
    assert default_data([], light=False) == Scale()
    found = combine("X", "", {"a": StageRef(PLAIN, "cam")}, ["data.images=20"], default_data(["data.images=20"], True))
    assert (found.recipe.data["images"], found.recipe.stages["classifier"]["train"]["crop"]) == (20, 128)


def test_the_small_size_lists_images_of_the_training_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "IMAGES", 4)
    draw_voc(tmp_path / "data")
    data = {"kind": "voc", "root": str(tmp_path / "data")}
    scale = small(data, tmp_path / "runs", Scale())
    (path,) = (tmp_path / "runs" / "lists").iterdir()
    assert path.name.startswith("train-4-")
    listed = path.read_text().split()
    dataset = load_dataset("voc", tmp_path / "data")
    assert len(listed) == 4
    assert set(listed) < {s.id for s in dataset.samples}
    assert scale.data == (f'data.infer="train@{path}"',)
    again = small(data, tmp_path / "runs", Scale())
    assert again == scale
    assert [p.read_text().split() for p in (tmp_path / "runs" / "lists").iterdir()] == [listed]
    words = [*(f"data.{k}={v}" for k, v in data.items() if k == "root")]
    found = combine("X", "", {"a": StageRef(Variant("amn", "light-amn"), "amn-maps")}, ["data=voc", *words], scale)
    stages = found.recipe.stages
    assert found.recipe.data["infer"] == stages["amn"]["split"] == f"train@{path}"
    assert stages["amn-maps"]["scales"] == stages["cam"]["scales"] == [1.0, 0.5]
    assert (stages["amn"]["train"]["crop"], stages["amn"]["train"]["epochs"]) == (256, 3)
    assert stages["classifier"]["train"]["epochs"] == 6
    own = combine("X", "", {"a": StageRef(PLAIN, "cam")}, ["data=voc", *words, "cam.scales=[2.0]"], scale)
    assert own.recipe.stages["cam"]["scales"] == [2.0], "the user's own words count most"


def test_images_with_ground_truth_come_first_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "IMAGES", 5)
    draw_folder(tmp_path / "data", 12)
    masks = sorted((tmp_path / "data" / "masks").iterdir())
    for mask in masks[3:]:
        mask.unlink()
    data = {"kind": "folder", "root": str(tmp_path / "data"), "tags": "tags.csv", "images": "images"}
    small(data, tmp_path, Scale())
    (path,) = (tmp_path / "lists").iterdir()
    assert {m.stem for m in masks[:3]} < set(path.read_text().splitlines())
    assert len(path.read_text().splitlines()) == 5


def test_a_small_data_set_needs_no_list(tmp_path: Path) -> None:
    draw_voc(tmp_path / "data")
    scale = small({"kind": "voc", "root": str(tmp_path / "data")}, tmp_path, Scale())
    assert scale.data == ()
    assert not (tmp_path / "lists").exists()
    words = scale.words(load_recipe("light-amn"))
    assert "amn.train.crop=256" in words
    assert not any("split" in word for word in words)
    with pytest.raises(ConfigError, match="data.train = train@list.txt.*leave --size small out"):
        small({"kind": "voc", "root": str(tmp_path / "data"), "train": "train@list.txt"}, tmp_path, Scale())


def test_generated_scenes_are_not_halved(tmp_path: Path) -> None:
    scenes = default_data((), light=True)
    scale = small({"kind": "parts", "images": 4, "size": 64}, tmp_path, scenes)
    stages = combine("X", "", {"a": StageRef(PLAIN, "cam"), "b": StageRef(PLAIN, "lpcam")}, (), scale).recipe.stages
    assert stages["cam"]["scales"] == stages["lpcam"]["scales"] == [1.0, 2.0]
    assert stages["classifier"]["train"]["epochs"] == 8
