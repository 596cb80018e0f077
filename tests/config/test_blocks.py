"""Blocks of recipes: what a block says is taken, changed, given to others, or refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.config.blocks import Blocks, flat
from tag2mask.core.errors import ConfigError
from tests.helpers.refused import refused

BLOCKS = {
    "data/papers/voc12": "data:\n  kind: voc\n",
    "data/own-data": "data:\n  kind: folder\n",
    "maps/cam": "stages:\n  cam:\n    kind: cam\n",
    "parts/seeds": """
        # What this block is.
        stages:
          # <maps> is cut.
          <of>-seeds:         # of <maps>
            kind: seeds
            reads: {maps: <maps>}
            threshold if papers and of=cam: 0.15   # IRN's
            threshold if not papers or of=lpcam: 0.4
            threshold: 0.3    # ours
            train:
              lr if own-data: 0.1
              lr: 0.2         # of the papers
          <of>-score if papers:
            kind: masks
    """,
}


def blocks(tmp_path: Path, **more: str) -> Blocks:
    """Blocks in a folder, those above and more; a name's ``_`` is a slash."""
    for name, text in (BLOCKS | {key.replace("_", "/"): text for key, text in more.items()}).items():
        lines = text.strip("\n").splitlines()
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix("        ") for line in lines) + "\n")
    return Blocks(tmp_path / "recipes")


def stages(made: Blocks, block: str, *words: str, **names: str) -> str:
    """Flat text of the stages of a block in a recipe of these words."""
    found = next(entry for entry in made.block(block, "test") if entry.key == "stages")
    return "\n".join(flat(made.expanded(found.below, made.scope(words).with_names(**names))))


def test_the_first_line_that_holds_is_taken_and_comments_stay(tmp_path: Path) -> None:
    assert stages(blocks(tmp_path), "seeds", "voc12", of="cam", maps="amn-maps").splitlines() == [
        "# amn-maps is cut.",
        "cam-seeds:                # of amn-maps",
        "  kind: seeds",
        "  reads: {maps: amn-maps}",
        "  threshold: 0.15         # IRN's",
        "  train:",
        "    lr: 0.2               # of the papers",
        "cam-score:",
        "  kind: masks",
    ]


@pytest.mark.parametrize(
    ("words", "of", "threshold"),
    [(["voc12"], "cam", "0.15"), (["voc12"], "lpcam", "0.4"), (["own-data"], "cam", "0.4"), (["voc12"], "amn", "0.3")],
)
def test_and_binds_more_than_or_and_folders_are_words(
    words: list[str], of: str, threshold: str, tmp_path: Path
) -> None:
    text = stages(blocks(tmp_path), "seeds", *words, of=of, maps=of)
    assert f"threshold: {threshold}" in text
    assert ("lr: 0.1" in text) == (words == ["own-data"])
    assert ("-score" in text) == (words == ["voc12"])


USING = """
        stages:
          # From CAM.
          use seeds of=cam maps=<maps>:
            cam-seeds:
              threshold if own-data: 0.5   # measured
              split: train
              train:
                lr: 0.3       # another
          masks:
            kind: pseudo-masks
"""


def test_a_block_that_uses_another_changes_lines_of_its_stages_in_their_place(tmp_path: Path) -> None:
    made = blocks(tmp_path, chain_irn=USING)
    assert stages(made, "irn", "own-data", maps="cam").splitlines() == [
        "# From CAM.",
        "# cam is cut.",
        "cam-seeds:                # of cam",
        "  kind: seeds",
        "  reads: {maps: cam}",
        "  threshold: 0.5          # measured",
        "  train:",
        "    lr: 0.3               # another",
        "  split: train",
        "masks:",
        "  kind: pseudo-masks",
    ]
    assert "threshold: 0.15" in stages(made, "irn", "voc12", maps="cam"), "a change whose condition does not hold"


WRONG = {
    "stages:\n  use seds of=cam maps=cam:": r"irn.yaml, line 2: unknown block 'seds'; did you mean 'seeds'",
    "stages:\n  cam if vok12:\n    kind: cam": r"irn.yaml, line 2: unknown block 'vok12'; did you mean 'voc12'",
    "stages:\n  use seeds of=cam:": r"seeds.yaml, line 4: the parameter 'maps' has no value; .* maps=VALUE",
    "stages:\n  use seeds cam:": r"irn.yaml, line 2: 'cam' is not NAME=VALUE",
    "stages:\n  use seeds of=cam maps=cam:\n    cam-seed:\n      kind: seeds": (
        r"irn.yaml, line 3: unknown stage 'cam-seed'; did you mean 'cam-seeds'"
    ),
    "stages:\n  use cam:\n  cam:\n    kind: cam": r"irn.yaml, line 3: 'cam' is there already, from .*cam.yaml, line 2",
    "stages:\n  use cam:\n  use seeds of=cam maps=cam:\n  use seeds of=cam maps=lpcam:": (
        r"irn.yaml, line 4: 'cam-score' is there already, from .*seeds.yaml, line 13: leave one out"
    ),
    "stages:\n  use irn:": r"irn.yaml, line 2: the block 'irn' uses itself; leave out 'use irn'",
    "stages:\n  use voc12:": r"irn.yaml, line 2: the block 'voc12' has no stages",
    "stages:\n  cam": r"irn.yaml, line 2: 'cam' is not 'key: value'",
    "stages:\n    cam: 1\n  lpcam: 2": r"irn.yaml, line 3: 'lpcam: 2' is not 'key: value' below the line",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_block_is_named_by_file_and_line(text: str, tmp_path: Path) -> None:
    made = blocks(tmp_path, chain_irn=text)
    with pytest.raises(ConfigError, match="recipes/chain/" + WRONG[text] if "irn.yaml" in WRONG[text] else WRONG[text]):
        stages(made, "irn", "voc12")


def test_two_blocks_of_one_name_are_refused(tmp_path: Path) -> None:
    with refused(ConfigError, "one name", "chain/cam.yaml", "maps/cam.yaml"):
        blocks(tmp_path, chain_cam="stages:\n  cam:\n    kind: cam")
