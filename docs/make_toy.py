"""Make the toy of AMN's Figure 2 for the docs: the experiment A3 by itself.

Run ``python docs/make_toy.py`` from the repository's root: writes ``docs/figures/toy.svg`` and ``results/toy.csv``. The
command in the table is the experiment's, which writes the same numbers to where it is told.
"""

from __future__ import annotations

from pathlib import Path

from tag2mask.evaluation.result_tables import write_results
from tag2mask.papers.steps.toy_figures import draw, rows

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "tag2mask experiment run A3"

if __name__ == "__main__":
    draw(ROOT / "docs" / "figures" / "toy.svg")
    write_results(ROOT / "results" / "toy.csv", rows(COMMAND))
