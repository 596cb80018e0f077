"""Measures the effect of wrong tags, for ``tag2mask analyse tag-noise``: a recipe at several levels of tag noise.

Maps and masks are made for the noisy tags, as someone with wrong tags would make them. Ground truth and the tags of the
held-out split stay clean, so mIoU and the classifier's average precision are measured correctly. Only stages that
depend on the tags are rerun; level 0 is the run without noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.config.recipe import load_recipe
from tag2mask.core.arrays import rounded
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.processes.ranks import rank
from tag2mask.data.registry import open_split
from tag2mask.data.tag_noise import NoiseCount, count_noise
from tag2mask.evaluation.result_tables import write_table
from tag2mask.pipeline.plan import make_plan
from tag2mask.sweep.result import SweepResult, series_of
from tag2mask.sweep.run import sweep

NOISE_KINDS = ("drop", "flip")
LEVELS = (0.05, 0.1, 0.2)
SHOWN_METRICS = ("map", "miou", "miou_foreground", "f1_foreground")
"""Average precision of the classifier, mIoU and F1 of maps, masks and predictions."""


@dataclass(frozen=True, slots=True)
class DamageLine:
    """One number at one level of noise, as a line of CSV; the columns from ``method`` on are as in ``results/``.

    Tags are counted in the training split, as in `NoiseCount`.
    """

    noise: str  # drop or flip
    level: float  # share of the tags that was drawn, 0..1
    noise_seed: int  # of the draw
    tags: int
    removed: int
    added: int
    emptied: int
    method: str  # what was measured
    split: str
    n_images: int
    threshold_kind: str
    metric: str
    value: float  # percent, mean over the recipe's seeds
    clean: float  # the same without noise
    change: float  # value - clean, points
    seeds: int  # their number
    command: str  # runs this level alone


@dataclass(frozen=True, slots=True)
class NoiseResult:
    """Result of `measure_tag_noise`."""

    lines: tuple[DamageLine, ...]  # level by level, without those that failed
    failed: tuple[tuple[str, str], ...]  # command of each failed level, and why
    files: tuple[Path, ...]  # the table of ``lines``, then tables and figures of the sweeps


def measure_tag_noise(
    recipe: str,
    *overrides: str,
    kinds: Sequence[str] = NOISE_KINDS,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    only: Sequence[str] = (),
    metric: str = "miou",
    out: Path | None = None,
) -> NoiseResult:
    """Run a recipe at each level of tag noise, and without.

    Args:
        recipe: a name that ``tag2mask ls`` shows, or a path that ends in .yaml.
        *overrides: ``key=value`` for all levels.
        kinds: of `NOISE_KINDS`, as in `tag2mask.data.tag_noise`.
        levels: shares of the tags, each above 0 and below 1.
        seed: of the draw; the tags wrong at one level are wrong at every higher one too.
        only: measuring stages, with all that they read; empty for every stage of the recipe.
        metric: that is drawn, ``map`` for data without ground truth; the table has all of `SHOWN_METRICS`.
        out: the table is ``OUT.csv``, the runs of a kind are in the folder ``OUT-<kind>`` and use the store beside it;
            None for ``runs/tag-noise-<name of the recipe>``.
    """
    _check(overrides, kinds, levels)
    words = [*overrides, f"data.tag_noise={{seed: {seed}}}"]
    name = load_recipe(recipe, overrides).name
    out = out or Path("runs") / f"tag-noise-{name}"
    shares = (0.0, *sorted(set(levels)))
    lines: list[DamageLine] = []
    failed: list[tuple[str, str]] = []
    files: list[Path] = []
    for kind in dict.fromkeys(kinds):
        counts = [_count(recipe, [*words, f"data.tag_noise.{kind}={share:g}"]) for share in shares]
        folder = out.with_name(f"{out.name}-{kind}")
        grid = {f"data.tag_noise.{kind}": [f"{share:g}" for share in shares]}
        found = sweep(recipe, grid, overrides=words, out=folder, only=only, metric=metric)
        lines += _damage(found, kind, shares, seed, counts)
        failed += [(point.command, point.error or "") for point in found.failed]
        files += found.files
    table = out.with_name(f"{out.name}.csv")
    if rank() == 0:
        write_table(table, DamageLine, lines)
    return NoiseResult(tuple(lines), tuple(failed), (table, *files))


def _check(overrides: Sequence[str], kinds: Sequence[str], levels: Sequence[float]) -> None:
    for kind in kinds:
        if kind not in NOISE_KINDS:
            raise ConfigError(unknown("kind of tag noise", kind, NOISE_KINDS))
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong or not levels or not kinds:
        raise ConfigError(
            f"level = {wrong[0] if wrong else 'nothing'}: expected shares of the tags, above 0 and below 1, such as "
            "0.1; the clean run is always added"
        )
    for word in overrides:
        if word.startswith("data.tag_noise"):
            raise ConfigError(f"'{word}' is set by the levels; give --level, --kind and --noise-seed instead")


def _count(recipe: str, words: Sequence[str]) -> NoiseCount:
    """Counts of right and wrong tags in the training split."""
    plan = make_plan(load_recipe(recipe, words))
    right = open_split(plan.data_kind, plan.data.model_copy(update={"tag_noise": None}), plan.data.train)
    wrong = open_split(plan.data_kind, plan.data, plan.data.train)
    return count_noise(right.samples, wrong.samples)


def _damage(
    found: SweepResult, kind: str, shares: Sequence[float], seed: int, counts: Sequence[NoiseCount]
) -> list[DamageLine]:
    """Every number beside the clean one, point by point; left out if either is missing."""
    every = [(metric, series) for metric in SHOWN_METRICS for series in series_of(replace(found, metric=metric))]
    lines = []
    for place, (point, count) in enumerate(zip(found.points, counts, strict=True)):
        for metric, series in every:
            clean, cell = series.cells[0], series.cells[place]
            if clean is not None and cell is not None:
                line = DamageLine(
                    kind, shares[place], seed, count.tags, count.removed, count.added, count.emptied, series.method,
                    series.split, cell.n_images, series.kind, metric, rounded(cell.mean), rounded(clean.mean),
                    rounded(cell.mean - clean.mean), cell.n_seeds, point.command,
                )  # fmt: skip
                lines.append(line)
    return lines
