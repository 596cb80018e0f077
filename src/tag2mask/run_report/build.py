"""Gathers what the page of a run shows: numbers, examples, notes, times, galleries, recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tag2mask.analysis.prototype_gallery import gallery_classes
from tag2mask.config.recipe import dump_recipe
from tag2mask.core.errors import command as suggested
from tag2mask.core.files import value_hash
from tag2mask.data.base import Dataset
from tag2mask.evaluation.measures import tolerance
from tag2mask.evaluation.measures.trivial import ALL_BACKGROUND, TRIVIAL
from tag2mask.evaluation.metrics import BACKGROUND, PER_LABEL
from tag2mask.evaluation.result_tables import MetricRow, read_columns
from tag2mask.methods.artefact import FOLDERS, Artefact
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.metric_stages import CURVE
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import REPORT, Measured, measured
from tag2mask.pipeline.session import Done
from tag2mask.report.choice import ImageChoice
from tag2mask.report.gallery import GalleryClass
from tag2mask.report.page import render_page
from tag2mask.report.parts import RunPart, SplitPart, StageTime
from tag2mask.report.scores import LabelScore, MethodResult, Score
from tag2mask.run_report.example_images import MeasuredSplit, examples
from tag2mask.run_report.pixel_statistics import PixelStatistics, measured_ids, pixels_of
from tag2mask.thresholds.by_scores import CLASSES, in_words, read_choices
from tag2mask.thresholds.threshold_of import ROLE


def notes(metrics: Sequence[MetricRow], split: str, every: Sequence[Measured], n_images: int, n_seen: int) -> list[str]:
    """What is to be said about one split of a run."""
    known = [r for r in metrics if r.metric == "map" and r.value is not None]
    found = [f"Classifier: mean average precision {r.value:.1f} on {r.split} ({r.n_images} images)." for r in known]
    rows = [r for r in metrics if r.split == split]
    found += _refined(rows)
    found += _networks(rows, every)
    choices = [item for m in every for item in m.measuring.artefact.choices().items()]
    found += [f"{name}: {chosen}." for name, chosen in dict(choices).items()]
    behind = {source.name: source for m in every for source in m.measuring.artefact.upstream()}
    found += [line for source in behind.values() for line in _ruled(source)]
    if n_seen:
        found.append(f"{n_seen} images whose masks a threshold was chosen on are left out of every number.")
    if any(r.metric == "miou" and r.value is None for r in rows):
        found.append("–: the ground truth shows no class, so there is no mIoU; tag2mask doctor looks at the masks.")
    if not n_images:
        found.append("This data has no masks, so nothing was measured: look at the pictures.")
    return found


def _ruled(source: Artefact) -> Iterator[str]:
    """The thresholds of classes that a rule of raw scores has chosen, and why."""
    if source.kind is None or source.kind.makes is not Makes.THRESHOLD:
        return
    choices = list(read_choices(source.path).items())
    for name, choice in choices[:_CLASSES]:
        yield f"{source.name}: {in_words(name, choice)}."
    if len(choices) > _CLASSES:
        yield f"{source.name}: and {len(choices) - _CLASSES} more classes, in {source.path / CLASSES}."


def _refined(rows: Sequence[MetricRow]) -> list[str]:
    known = {(r.stage, r.metric): r.value for r in rows if r.value is not None}
    found = []
    for stage in dict.fromkeys(stage for stage, metric in known if metric == "coverage"):
        right = known.get((stage, "precision_sure"))
        share = f", and {right:.1f} % of these are right" if right is not None else ""
        found.append(f"Refined seeds {stage}: {known[stage, 'coverage']:.1f} % of the pixels are confident{share}.")
    return found


def _networks(rows: Sequence[MetricRow], every: Sequence[Measured]) -> list[str]:
    """Predictions with the network that made them and its first weights."""
    networks = {m.name: network for m in every if (network := m.maker.artefact.described())}
    known = {(r.stage, r.metric): r.value for r in rows if r.value is not None}
    found = []
    for r in rows:
        if r.metric == "miou" and r.value is not None and r.stage in networks:
            miou, f1 = (known.get((r.stage, metric)) for metric in ("miou_foreground", "f1_foreground"))
            classes = "" if miou is None or f1 is None else f", the classes alone {miou:.1f}, their F1 {f1:.1f},"
            images = f"({r.n_images} images; {networks[r.stage]})"
            found.append(f"{r.stage}: {r.value:.1f} mIoU{classes} on {r.split} {images}.")
    return found


_MEANS = ("miou", "fp", "fn", "precision", "recall")
_BESIDE = ("miou_foreground", "f1_foreground", tolerance.METRIC)
_PATCHES = 3
_CLASSES = 12


def finished_stages(run: OpenedRun) -> list[Done]:
    """Every stage of a run, finished; raises as `OpenedRun.artefact`."""
    return [run.done(name) for name in run.stages]


def write_page(run: OpenedRun, command: str) -> bool:
    """Write ``report.html`` into the run folder; nothing where the run has evaluated neither seeds nor masks.

    Args:
        run: with all its stages made.
        command: the one that reruns it.

    Returns:
        Whether it was written.
    """
    part = run_part(run, ImageChoice(), command=command)
    if part.parts:
        render_page([part], run.path / REPORT)
    return bool(part.parts)


def run_part(run: OpenedRun, choice: ImageChoice, name: str = "", command: str = "") -> RunPart:
    """Gather everything a page shows of one run; without any part where it has evaluated neither seeds nor masks.

    Args:
        run: with all its stages made.
        choice: which images are shown.
        name: of the run on the page; the default is that of its folder.
        command: the one that reruns it; the default is the one that resumes it.
    """
    plan, recipe, stages = run.plan, run.plan.recipe, finished_stages(run)
    looked_at = measured(stages)
    splits = {m.name: plan.split_of(m.measuring.stage) for m in looked_at}
    seen = dict.fromkeys(s for m in looked_at if not m.refined and (s := splits[m.name]) is not None)
    parts = [
        _split_part(run, run.split(split), [m for m in looked_at if splits[m.name] == split], choice) for split in seen
    ]
    classes = run.split(next(iter(seen), plan.data.infer)).classes
    named = f"{', '.join(classes[:_CLASSES])}{' …' if len(classes) > _CLASSES else ''}"
    return RunPart(
        name=name or run.path.name,
        title=f"{recipe.name}: {recipe.description}" if recipe.description else recipe.name,
        data=f"{plan.data_kind}, {len(classes)} classes: {named}",
        classes=classes,
        ledger=tuple(sorted(set().union(*(m.measuring.manifest.ledger for m in looked_at if not m.refined)))),
        seeds=recipe.seeds,
        parts=tuple(parts),
        thresholds={m.name: v for m in looked_at if _slides(m) and (v := m.threshold.value) is not None},
        times=tuple(_times(stages)),
        command=command or run.command,
        recipe=dump_recipe(recipe),
        environment=_environment(run.folder.environment()),
        galleries=tuple(_galleries(run)) if parts else (),
        gallery_note="What each prototype in use looks like. All of them, with the reasons, and how to drop one: "
        + suggested("prototypes", run.path),
    )


def _split_part(run: OpenedRun, dataset: Dataset, every: Sequence[Measured], choice: ImageChoice) -> SplitPart:
    """One split."""
    shown = [m for m in every if not m.refined]
    rows = [r for r in run.metrics if r.split == dataset.split]
    counted = {m.name: pixels_of(m, dataset) for m in shown if any(r.stage == m.name for r in rows)}
    n_images = max((r.n_images for r in rows if r.metric == "miou"), default=0)
    ids = {sample.id for sample in dataset.samples}
    n_seen = len(ids & frozenset[str]().union(*(m.measuring.artefact.masks_seen() for m in shown)))
    own = {run.plan.split_of(m.maker.stage) for m in every}
    makers = [
        d
        for d in finished_stages(run)
        if d.stage.kind.makes in FOLDERS and run.plan.split_of(d.stage) in own and _first_seed(run, d)
    ]
    scene = MeasuredSplit(dataset, makers, {m.name: m for m in every})
    last = [m for m in shown if _first_seed(run, m.maker)][-1]
    ignored = counted[last.name].void if last.name in counted else {}
    known = [_method(run, m, dataset, rows, counted[m.name]) for m in shown if m.name in counted]
    return SplitPart(
        split=dataset.split,
        n_images=n_images,
        n_without_truth=len(dataset) - n_images - n_seen,
        methods=tuple(known),
        notes=tuple(notes(run.metrics, dataset.split, every, n_images, n_seen)),
        shown=examples(scene, last, ignored, choice),
        trivial=tuple(_trivial(rows)),
    )


def _trivial(rows: Sequence[MetricRow]) -> Iterator[tuple[str, Score]]:
    """What trivial answers reach, once for each count of images."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row.stage in TRIVIAL:
            found.setdefault((row.stage, row.n_images), {}).setdefault(row.metric, _number(row.value))
    for (name, n_images), values in found.items():
        nothing, ledger = (math.nan,) * 4, () if name == ALL_BACKGROUND else ("tags",)
        beside = (values.get(metric, math.nan) for metric in _BESIDE)
        yield name, Score("none", None, values.get("miou", math.nan), *nothing, n_images, ledger, *beside)


def _first_seed(run: OpenedRun, done: Done) -> bool:
    """Whether a stage is to be seen: of several seeds only the first is."""
    return "@" not in done.stage.name or done.stage.seed == run.plan.recipe.seeds[0]


def _is_maps(found: Measured) -> bool:
    return found.maker.stage.kind.makes is Makes.MAPS


def _slides(found: Measured) -> bool:
    """Whether a slider can cut the maps anew: the script of a page knows the constant rule alone."""
    return _is_maps(found) and found.threshold.background.is_constant


def _method(
    run: OpenedRun, found: Measured, dataset: Dataset, rows: Sequence[MetricRow], counted: PixelStatistics
) -> MethodResult:
    mine = [r for r in rows if r.stage == found.name]
    at = dict.fromkeys((r.threshold_kind, r.threshold) for r in mine if r.metric in _MEANS)
    values = {(r.threshold_kind, r.threshold, r.metric): _number(r.value) for r in mine}
    n_images = next(r.n_images for r in mine)
    scores = []
    for kind, threshold in at:
        miou, fp, fn, precision, recall = (values.get((kind, threshold, m), math.nan) for m in _MEANS)
        ledger = _ledger(run, found, kind, n_images)
        beside = (values.get((kind, threshold, m), math.nan) for m in _BESIDE)
        scores.append(Score(kind, threshold, miou, fp, fn, precision, recall, n_images, ledger, *beside))
    first = next(iter(at))
    labels = [
        LabelScore(name, *(values.get((*first, f"{metric}/{name}"), math.nan) for metric in PER_LABEL))
        for name in (BACKGROUND, *dataset.classes)
    ]
    images = value_hash([list(dataset.classes), sorted(measured_ids(found, dataset))])
    return MethodResult(
        found.name, tuple(scores), tuple(_curve(found.measuring)), tuple(labels), counted.counts,
        tuple(counted.optima.values()), images,
    )  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _ledger(run: OpenedRun, found: Measured, kind: str, n_images: int) -> tuple[str, ...]:
    """Supervision behind a number: that of the maps or masks, and of the masks that its threshold was chosen on."""
    ledger = set(found.maker.manifest.ledger)
    if kind == "oracle":
        ledger.add(f"pixel-masks:threshold({n_images})")
    source = found.measuring.stage.reads.get(ROLE)
    if _is_maps(found) and kind == found.threshold.kind_text and source is not None:
        ledger |= set(run.done(source).manifest.ledger)
    return tuple(sorted(ledger))


def _curve(finished: Done) -> list[tuple[float, float]]:
    path = finished.artefact.path / CURVE
    if not path.is_file():
        return []
    names = ("threshold", "miou")
    return [(at, miou) for at, miou in read_columns(path, names, numbers=names)]


def _times(stages: Sequence[Done]) -> list[StageTime]:
    """Each artefact once: stages that shared their forward passes, or are one in all that they read, are one line."""
    keys = {done.stage.name: done.artefact.key for done in stages}
    seen: set[str] = set()
    times = []
    for done in stages:
        if done.stage.name in seen:
            continue
        own = {done.artefact.key, *(keys[n] for n in done.manifest.shared_with if n in keys)}
        together = [name for name, key in keys.items() if key in own]
        seen.update(together)
        manifest = done.manifest
        times.append(StageTime(" + ".join(together), manifest.seconds, manifest.made, manifest.peak_memory))
    return times


def _environment(values: Mapping[str, Any]) -> Mapping[str, str]:
    """Versions, machine and data of the run, each as text; empty where they were not written."""
    found: dict[str, str] = {}
    for name, value in values.items():
        found |= (
            {f"{name} {part}": str(v) for part, v in value.items()} if isinstance(value, dict) else {name: str(value)}
        )
    return found


def _galleries(run: OpenedRun) -> list[tuple[str, tuple[GalleryClass, ...]]]:
    makers = [d for d in finished_stages(run) if d.stage.kind.makes is Makes.PROTOTYPES and _first_seed(run, d)]
    return [(d.stage.name, gallery_classes(run, d.stage, kept_only=True, patches=_PATCHES)) for d in makers]
