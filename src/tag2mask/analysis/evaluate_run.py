"""Evaluates the maps and predictions of a finished run for ``tag2mask eval``, without rerunning a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tag2mask.core.errors import ConfigError, nothing_shown, unknown
from tag2mask.core.progress import LOG, progress
from tag2mask.evaluation.label_images import evaluate_masks
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import MetricRow, distinct, now, score_rows
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.metric_stages import log_nothing_shown, unseen
from tag2mask.pipeline.opened_run import OpenedMaps, OpenedMasks, OpenedRun, as_run
from tag2mask.pipeline.plan import is_prediction


def evaluate_run(
    run: OpenedRun | str | Path,
    *,
    stages: Sequence[str] = (),
    thresholds: Sequence[float] = (),
    split: str | None = None,
) -> list[MetricRow]:
    """Evaluate seeds and predictions of a finished run.

    Args:
        run: the run, or its folder. Of a packed one without its photos the numbers that it measured are returned.
        stages: instances that made maps or predictions; None means all.
        thresholds: each 0..1, of kind ``fixed``, for maps; the oracle is always added.
        split: a split with ground truth; None means the one whose maps or predictions were made.

    Returns:
        Rows of each stage of maps at each threshold, and of each stage of predictions, under a name that says how these
        were made, such as ``predictions-crf (single scale, CRF deeplabv2)``.

    Raises:
        StageError: no run, or maps or predictions that are missing or outdated.
        ConfigError: an unknown stage, a threshold outside 0..1, or one for predictions alone.
        DataError: no image has ground truth, or the data are not there.
    """
    run = as_run(run)
    kinds = [Threshold(value, "fixed") for value in thresholds]
    predicted = [name for name, s in run.stages.items() if is_prediction(run.plan, s)]
    of_maps = [name for name, s in run.stages.items() if s.kind.makes is Makes.MAPS]
    for name in stages:
        if predicted and name not in run.stages:  # without predictions the maps are checked below
            raise ConfigError(unknown("stage of maps or predictions", name, [*of_maps, *predicted]))
    of_maps = [name for name in stages if name not in predicted] if stages else of_maps
    if kinds and predicted and not of_maps:
        raise ConfigError(f"threshold = {thresholds[0]} belongs to stages of maps, but none is evaluated: leave it out")
    if run.packed and not run.has_data and not (kinds or split):
        return _measured_before(run, stages)
    chosen = run.making(Makes.MAPS, of_maps) if of_maps or not predicted else []
    opened = [run.maps(stage.name, split) for stage in chosen]
    rows, trivial = list[MetricRow](), list[MetricRow]()
    for maps in opened:
        _add(_maps_rows(maps, kinds), rows, trivial)
    for name in predicted:
        if not stages or name in stages:
            _add(_prediction_rows(run.masks(name, split)), rows, trivial)
    rows += distinct(trivial)
    if not any(
        row.stage not in TRIVIAL for row in rows
    ):  # no threshold was given, and none is best where the ground truth shows no class
        raise nothing_shown()
    return rows


_Rows = tuple[tuple[MetricRow, ...], tuple[MetricRow, ...]]
"""Rows of maps or predictions, and those of the trivial answers on the same images."""


def _add(found: _Rows, rows: list[MetricRow], trivial: list[MetricRow]) -> None:
    rows += found[0]
    trivial += found[1]


def _measured_before(run: OpenedRun, stages: Sequence[str]) -> list[MetricRow]:
    """The numbers that a run without its photos has measured."""
    LOG.warning(
        "%s was packed without its photos: these are the numbers that it measured. For other thresholds or splits, and "
        "for the oracle of each stage, name the folder of the photos with --root",
        run.path,
    )
    return [row for row in run.metrics if not stages or row.stage in stages]


def _maps_rows(maps: OpenedMaps, thresholds: Sequence[Threshold]) -> _Rows:
    samples = unseen([maps.artefact], maps.dataset, maps.name)
    with progress(maps.name, len(samples)) as counter:
        found = evaluate_seeds(maps.dataset, maps.read, thresholds, samples=samples, advance=counter.advance)
    log_nothing_shown(maps.name, found)
    assert found.trivial is not None
    seed, time = maps.stage.seed, now()
    rows = found.rows(stage=maps.name, method=maps.method, seed=seed, time=time)
    return rows, found.trivial.rows(split=found.split, seed=seed, time=time)


def _prediction_rows(masks: OpenedMasks) -> _Rows:
    name, made = masks.name, masks.artefact.variant()
    samples = unseen([masks.artefact], masks.dataset, name)
    with progress(name, len(samples)) as counter:
        found = evaluate_masks(masks.dataset, masks.read, samples=samples, advance=counter.advance)
    log_nothing_shown(name, found)
    assert found.trivial is not None
    seed, time = masks.stage.seed, now()
    rows = score_rows(
        found, Threshold(None, "none"), stage=f"{name} ({made})",
        method=f"{name} ({masks.artefact.described()}; {made})", split=found.split, n_images=found.n_images,
        seed=seed, time=time,
    )  # fmt: skip
    return rows, found.trivial.rows(split=found.split, seed=seed, time=time)
