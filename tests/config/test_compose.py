"""The recipes of the package: made of blocks by name, few lines, every combination right, or refused with a remedy."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest
import yaml

from tag2mask.config.compose import Recipes, packaged
from tag2mask.config.plain import read_yaml
from tag2mask.config.recipe import commented, dump_recipe, load_recipe, recipe_text, shipped
from tag2mask.core.errors import ConfigError
from tag2mask.pipeline.plan import make_plan
from tests.helpers.refused import refused
from tests.project.source import PACKAGE

FOLDER = PACKAGE / "recipes"
KINDS = {kind: [p.stem for p in (FOLDER / kind).rglob("*.yaml")] for kind in ("data", "chain", "maps", "network")}


def test_all_blocks_together_are_short() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FOLDER.rglob("*.yaml")}
    assert sum(lines.values()) <= 1500
    assert max(lines.values()) <= 150


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: str(path.stem))
def test_a_block_is_yaml_and_says_no_line_twice(path: Path) -> None:
    assert read_yaml(path, "block"), "equal keys with equal conditions are refused: only the first would count"


def test_no_part_of_a_block_is_written_twice() -> None:
    """Parts of eight lines without their comments, in blocks and in recipes of their own."""
    seen: dict[tuple[str, ...], tuple[str, int]] = {}
    for path in sorted(FOLDER.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8").partition("\nstages:\n")[2]
        lines = [line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line]
        for number in range(len(lines) - 7):
            part = tuple(lines[number : number + 8])
            assert seen.setdefault(part, (path.name, number)) == (path.name, number), part


def test_every_combination_of_blocks_is_right_or_refused_with_the_block() -> None:
    made, refused = set[str](), dict[str, str]()
    for parts in product(KINDS["data"], ["", *KINDS["chain"]], ["", *KINDS["maps"]], ["", *KINDS["network"]]):
        name = "-".join(part for part in parts if part)
        try:
            text = recipe_text(name)
        except ConfigError as error:
            refused[name] = str(error)
        else:
            made.add(yaml.safe_load(text)["name"])
            make_plan(load_recipe(name))
    assert {name for name in shipped() if name.startswith(("voc12", "coco14"))} <= made
    assert {"light-data-irn-lpcam-light", "own-data-irn-cam-light", "voc12-amn-cam", "own-data-lpcam"} <= made
    assert {"voc12-cam-upernet", "own-data-irn-cam-deeplabv2", "voc12-lpcam-on-amn-lpcam", "scenes-irn"} <= set(refused)
    assert all(f"recipe '{name}'" in text for name, text in refused.items())
    assert all("tag2mask ls recipes" in text or "Known: " in text for text in refused.values())


def test_a_chain_alone_has_the_maps_of_cam() -> None:
    short, long = (make_plan(load_recipe(name)).recipe for name in ("voc12-amn", "voc12-amn-cam"))
    assert short.model_copy(update={"name": long.name}) == long


WRONG = {
    "dmo": "unknown recipe 'dmo'; did you mean 'demo'",
    "voc12": "unknown recipe 'voc12'; did you mean 'voc12-cam'",
    "voc12-amn-lpca-upernet": "mean 'voc12-amn-lpcam-upernet' … 'lpca' is not a block … did you mean 'lpcam'",
    "voc12-lpcam-amn": "unknown recipe 'voc12-lpcam-amn'; did you mean 'voc12-amn-lpcam'",
    "voc12-irn-amn-cam": "'voc12-irn-amn-cam' … 'irn' and 'amn' are both chain … keep one",
    "voc12-cam-upernet": "block 'upernet' … 'papers and chain' only … tag2mask ls recipes",
    "own-data-light": "'own-data-light' … block 'light' … 'photos and chain' only … tag2mask ls recipes",
    "own-data-irn-cam-few-masks": "unknown recipe … did you mean 'own-data-irn-few-masks'",
    "": "unknown recipe ''",
    "--": "unknown recipe '--'",
    "mine": "must end in .yaml",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_is_no_recipe_is_refused_with_the_nearest(name: str) -> None:
    with refused(ConfigError, WRONG[name]):
        recipe_text(name)


def write(folder: Path, **texts: str) -> Recipes:
    """Recipes of these blocks; a name's ``_`` is a slash."""
    always = {"composed": "[a-one]", "parts_run": "seeds: [0]\nallow_supervision: [tags]\nengine: {}"}
    for name, text in (always | texts).items():
        path = folder / f"{name.replace('_', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Recipes(folder)


BLOCKS = {
    "data_a": """head:
  needs: data of kind a
description: <description>, data a
data: {kind: folder}""",
    "maps_one": """title: one alone
head:
  what if chain: unseen
  what: >
    maps
    of one
description: maps of one
stages:
  one:
    kind: one""",
    "chain_two": """title: two after one
for: a
description: masks of <description>
masks: <maps>-two
stages:
  <maps>-two:
    kind: two""",
    "network_net": """title: <description>, at last
for: chain and not maps
description: a net on <description>
stages:
  net:
    reads: {masks: <masks>}""",
    "modifier_few": "head: {few: a few masks}\nallow_supervision: [tags, masks]",
    "b-few": """blocks: [a, one, few]
title: few
head: {own: first}
stages:
  use one:
  # more
  last:
    kind: last""",
}


def test_a_name_is_composed_of_its_blocks_in_order(tmp_path: Path) -> None:
    recipes = write(tmp_path, **BLOCKS)
    assert recipes.names == ("a-one", "b-few")
    assert recipes.text("a-one").splitlines() == [
        "# a-one: one alone.", "#", "#   tag2mask run a-one", "#", "# data of kind a", "# maps of one",
        "name: a-one", "description: maps of one, data a", "data: {kind: folder}",
        "seeds: [0]", "allow_supervision: [tags]", "engine: {}", "stages:", "  one:", "    kind: one",
    ]  # fmt: skip
    longer = recipes.text("a-two-one")
    assert longer.startswith("# a-two-one: two after one.\n")
    assert "# unseen\nname: a-two-one\ndescription: masks of maps of one, data a\n" in longer
    assert longer.endswith("stages:\n  one:\n    kind: one\n  one-two:\n    kind: two\n")


def test_a_recipe_of_its_own_file_says_its_word_first_and_a_modifier_counts_before_the_rest(tmp_path: Path) -> None:
    assert write(tmp_path, **BLOCKS).text("b-few").splitlines() == [
        "# b-few: few.", "#", "#   tag2mask run b-few", "#",
        "# first", "# data of kind a", "# maps of one", "# a few masks",
        "name: b-few", "description: maps of one, data a", "data: {kind: folder}",
        "seeds: [0]", "allow_supervision: [tags, masks]", "engine: {}",
        "stages:", "  one:", "    kind: one", "  # more", "  last:", "    kind: last",
    ]  # fmt: skip


def test_blocks_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipe 'a-two-one-net': block 'net' goes with 'chain and not maps' only"):
        write(tmp_path, **BLOCKS).text("a-two-one-net")


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [("a, ome", "unknown block 'ome'; did you mean 'one'"), ("one", "'b-few' … has 'data' … add one")],
)
def test_a_recipe_of_its_own_with_wrong_blocks_is_named(blocks: str, problem: str, tmp_path: Path) -> None:
    recipes = write(tmp_path, **BLOCKS | {"b-few": f"blocks: [{blocks}]\nstages:\n  use one:"})
    with refused(ConfigError, problem):
        recipes.text("b-few")


def test_show_keeps_comments_where_the_value_is_the_recipes() -> None:
    source = recipe_text("voc12-irn-cam")
    recipe = make_plan(load_recipe("voc12-irn-cam", ["classifier.train.lr=0.2", "cam.scales=[1.0]"])).recipe
    text = commented(dump_recipe(recipe), source)
    assert yaml.safe_load(text) == yaml.safe_load(dump_recipe(recipe))
    assert text.partition("\nname:")[0] == source.partition("\nname:")[0]
    lines = text.splitlines()
    assert "      lr: 0.2" in lines, "its comment was on 0.1"
    assert "      stride: 16          # strides (2, 2, 2, 1) without dilation" in lines
    assert '  cam+crf:                # the papers\' "w/ CRF": one CRF pass over the seeds, nothing ignored' in lines
    assert all(line.strip() in text for line in source.splitlines() if line.strip().startswith("#"))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a: '# no' # c\nb: |\n  x: 1 # d\n", "a: '# no'\nb: 'x: 1 # d\n\n  '\n"),
        ("x: [1, # c\n  2]\n", "x:\n- 1\n- 2\n"),
        ("{a: 1, b: 2} # c\n", "a: 1\nb: 2\n"),
    ],
)
def test_comments_of_odd_yaml_never_change_a_value(source: str, text: str) -> None:
    assert yaml.safe_load(commented(text, source)) == yaml.safe_load(text)


@pytest.mark.parametrize("name", ["a-one", "b-few"])
def test_the_composed_text_is_yaml(name: str, tmp_path: Path) -> None:
    assert yaml.safe_load(write(tmp_path, **BLOCKS).text(name))["name"] == name
    assert packaged().text("demo") == recipe_text("demo")


def test_a_chain_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "recipes")
    (tmp_path / "recipes" / "chain" / "ours.yaml").write_text(
        """# A chain of ours.
for: papers
title: <description>
description: masks by ours from <MAPS> maps
masks: ours-masks
stages:
  ours:
    kind: ours-maps
    reads: {maps: <maps>}
    steps if voc12: 8     # of VOC
    steps if coco14: 9    # of COCO
  use irn of=ours maps=ours:
    ours-masks:
      threshold: 0.4      # ours
"""
    )
    recipes = Recipes(tmp_path / "recipes")
    assert "    steps: 8              # of VOC\n" in recipes.text("voc12-ours-cam")
    longer = recipes.text("coco14-ours-lpcam-upernet")
    assert "    threshold: 0.4        # ours\n" in longer
    made = yaml.safe_load(longer)
    assert made["description"] == "UPerNet on masks by ours from LPCAM maps, MS COCO 2014"
    assert made["stages"]["ours"] == {"kind": "ours-maps", "reads": {"maps": "lpcam"}, "steps": 9}
    assert made["stages"]["segmenter"]["reads"] == {"masks": "ours-masks"}
    assert made["stages"]["ours-masks"]["threshold"] == 0.4
    assert "Up to the pseudo-masks this is coco14-ours-lpcam, and" in longer


def test_a_name_of_very_many_words_is_refused_at_once() -> None:
    for name in ("-" * 1_000_000, "voc12-" + "irn-x" * 100_000):
        with pytest.raises(ConfigError) as caught:
            recipe_text(name)
        assert len(str(caught.value)) < 3000
