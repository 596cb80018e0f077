"""Measures every rule that chooses a threshold from maps alone against the oracle, on the maps of finished runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tag2mask.analysis.base import Analysis, Findings, Run, open_several, shared
from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.core.files import value_hash
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import Sample
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.seeds import SeedEvaluation, evaluate_seeds
from tag2mask.evaluation.threshold_rules.evidence import ImageEvidence
from tag2mask.evaluation.threshold_rules.rules import RuleChoice, choose_thresholds, rules_of
from tag2mask.evaluation.thresholds import SCOPES, Threshold
from tag2mask.inference.settings import PyramidSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.cam.kinds import CLASSIFIER
from tag2mask.methods.stage_kinds import ImageStage, Makes
from tag2mask.pipeline.opened_run import OpenedMaps, OpenedRun, as_run
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.report.figures import Dots, draw_dots
from tag2mask.thresholds.evidence import agreements, histograms
from tag2mask.thresholds.kinds import ErasureSettings, sampled

LOSS = "loss_to_oracle"
"""Points of mIoU that a threshold loses to the oracle of the same images; below 0 where it gains, as a threshold of
each image may."""


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What is measured, the same for all maps.

    Attributes:
        other: stage of maps that agreement is measured with; None for a stage's own view.
        fixed: further fixed thresholds of a stage, by its name.
        images: that the classifier sees for its rules; 0 leaves these out.
        part: (i, k): the i-th of k parts of the images, by the hash of their ids; None for all.
        split: the split to look at; None for the one whose maps were made.
    """

    other: str | None = None
    fixed: Mapping[str, Sequence[float]] = field(default_factory=dict)
    images: int = ErasureSettings().images
    part: tuple[int, int] | None = None
    split: str | None = None

    def words(self, stage: str) -> list[str]:
        """As words of the command line but ``--split``, for the command beside a stage's numbers."""
        fixed = [f"--fixed={stage}={value:g}" for value in self.fixed.get(stage, ())]
        images = [] if self.images == ErasureSettings().images else [f"--images={self.images}"]
        part = [f"--part={self.part[0]}/{self.part[1]}"] if self.part else []
        other = [f"--other={self.other}"] if self.other else []
        return [*other, *fixed, *images, *part]


def analyse_rules(
    runs: Sequence[Run],
    *,
    stages: Sequence[str] = (),
    options: RuleOptions | None = None,
    out: Path | None = None,
) -> Analysis:
    """Measure every rule on the maps of finished runs: its threshold, mIoU there, and what it loses to the oracle.

    A rule of activations is measured for the data set, per class and per image; agreement where the run has another
    view of the same maps (a stage of the same kind and inputs at fewer scales); the classifier for the data set. The
    thresholds in the settings of the run's own stages stand beside them.

    Arguments and errors as for `tag2mask.analysis.map_thresholds.analyse_curves`, but that without ``stages`` every
    stage is measured that is not a view of another.
    """
    options, opened_runs = options or RuleOptions(), [as_run(run) for run in runs]
    opened = open_several(opened_runs, stages or without_views(opened_runs), options.split)
    names = {maps.name for maps in opened}
    for name in options.fixed:
        if name not in names:
            raise ConfigError(unknown("stage with a fixed threshold", name, names))
    findings = Findings("threshold-rules", opened, out, options.split)
    dots: list[Dots] = []
    for maps, samples in zip(opened, shared(opened), strict=True):
        found = _measured(maps, [s for s in samples if in_part(s.id, options.part)], options)
        findings.n_without_truth = found.n_without_truth
        rows = _rows(found, findings.origin(maps, *options.words(maps.name)))
        for numbers in rows:
            findings.add(maps, numbers)
        losses = tuple((loss.threshold_kind, loss.value or 0.0) for _, loss, *_ in rows[:-1])
        dots.append(Dots(findings.name(maps), losses))
    return findings.write(
        lambda path: draw_dots(
            dots, "points of mIoU lost to the oracle", f"Thresholds without ground truth, {findings.where}", path
        ),
        metrics=("miou", "miou_foreground", "f1_foreground", LOSS),
    )


def in_part(sample_id: str, part: tuple[int, int] | None) -> bool:
    """Whether an image belongs to the i-th of k parts, by the hash of its id."""
    if part is None:
        return True
    place, count = part
    if not 1 <= place <= count:
        raise ConfigError(f"part = {place}/{count}: expected i/k with i from 1 to k, such as 1/2")
    return int(value_hash(["part", sample_id])[:12], 16) % count == place - 1


def _measured(maps: OpenedMaps, samples: Sequence[Sample], options: RuleOptions) -> SeedEvaluation:
    """Seeds at the stage's own thresholds, and at those of every rule."""
    if not samples:
        raise DataError(f"{maps.name}: no image of split '{maps.dataset.split}' is in this part; take fewer parts")
    tagged = [s for s in samples if s.tags]
    chosen = [
        *_own(maps, options),
        *_by_histogram(maps, tagged),
        *_by_agreement(maps, tagged, options),
        *_by_classifier(maps, tagged, options),
    ]
    with progress(maps.name, len(samples)) as counter:
        found = evaluate_seeds(
            maps.dataset, maps.read, list(dict.fromkeys(chosen)), samples=samples, advance=counter.advance
        )
    found.check()
    return found


def _own(maps: OpenedMaps, options: RuleOptions) -> Iterator[Threshold]:
    """Thresholds of stages that cut these maps once, and those that the options add."""
    for stage in maps.run.stages.values():
        kind = stage.kind
        once = not (isinstance(kind, ImageStage) and kind.leaves_ignored)  # refined seeds are cut twice
        if stage.reads.get("maps") == maps.name and kind.threshold is not None and once:
            own = kind.threshold(stage.settings)
            yield Threshold(own.value, own.kind)
    for value in options.fixed.get(maps.name, ()):
        yield Threshold(value, "fixed")


def _by_histogram(maps: OpenedMaps, samples: Sequence[Sample]) -> list[Threshold]:
    with progress(f"{maps.name}: histograms", len(samples)) as counter:
        return _chosen("histogram", histograms(maps.read, samples, counter.advance), maps, SCOPES)


def _by_agreement(maps: OpenedMaps, samples: Sequence[Sample], options: RuleOptions) -> list[Threshold]:
    view = view_of(maps.stage, _stages_of_maps(maps.run))
    other = options.other or (view.name if view else None)
    if other is None or other == maps.name:
        LOG.info("%s: no other view of these maps, so no rule of agreement", maps.name)
        return []
    second = maps.run.maps(other, options.split)
    with progress(f"{maps.name}: agreement with {other}", len(samples)) as counter:
        images = agreements(maps.read, second.read, samples, counter.advance)
        return _chosen("agreement", images, maps, SCOPES)


def _by_classifier(maps: OpenedMaps, samples: Sequence[Sample], options: RuleOptions) -> list[Threshold]:
    classifier = classifier_behind(maps.artefact)
    if classifier is None or not options.images:
        return []
    from tag2mask.thresholds.evidence import erasures

    few, fill = sampled(list(samples), options.images, per_class=False), ErasureSettings().fill
    engine = maps.run.plan.recipe.engine
    with progress(f"{maps.name}: classifier", len(few)) as counter:
        images = erasures(classifier.path, maps.dataset, maps.read, few, fill, engine, counter.advance)
        return _chosen("erasure", images, maps, ("data",))


def classifier_behind(artefact: Artefact) -> Artefact | None:
    """The classifier that an artefact was made from, however far up; None where there is none."""
    return next((one for one in artefact.upstream() if one.kind is CLASSIFIER), None)


def _chosen(evidence: str, images: Iterator[ImageEvidence], maps: OpenedMaps, per: Collection[str]) -> list[Threshold]:
    rules = rules_of(evidence)
    found: dict[str, RuleChoice] = choose_thresholds(rules, images, len(maps.dataset.classes), per)
    for rule in rules:
        if rule.name not in found:
            LOG.warning("%s: rule '%s' finds no threshold in these maps", maps.name, rule.name)
    return [choice.threshold(scope) for choice in found.values() for scope in per]


def _rows(found: SeedEvaluation, origin: Origin) -> list[tuple[ResultRow, ...]]:
    """MIoU, loss, and the means over the classes at each threshold; the last is the oracle."""
    oracle = found.scores[-1].scores.miou
    return [
        origin.rows(
            [
                ("miou", at.scores.miou),
                (LOSS, oracle - at.scores.miou),
                ("miou_foreground", at.scores.mean("iou")),
                ("f1_foreground", at.scores.f1_foreground),
            ],
            at.threshold,
            found.split,
            found.n_images,
        )
        for at in found.scores
    ]


def view_of(stage: PlannedStage, stages: Sequence[PlannedStage]) -> PlannedStage | None:
    """The stage that makes the same maps from the fewest views (scales and mirror); None where none has fewer."""
    fewer = [
        s for s in stages if _views(s) < _views(stage) and _settings_except_views(s) == _settings_except_views(stage)
    ]
    return min(fewer, key=_views, default=None)


def _views(stage: PlannedStage) -> int:
    settings = stage.settings
    return len(settings.scales) * (1 + settings.mirror) if isinstance(settings, PyramidSettings) else 0


def _settings_except_views(stage: PlannedStage) -> object:
    settings = stage.settings.model_dump(exclude=set(PyramidSettings.model_fields))
    return stage.kind.name, dict(stage.reads), stage.seed, settings


def without_views(runs: Sequence[OpenedRun]) -> list[str]:
    """Every stage of maps of some runs that is not a view of another."""
    found: dict[str, None] = {}
    for run in runs:
        stages = _stages_of_maps(run)
        views = {view.name for s in stages if (view := view_of(s, stages))}
        found |= {s.name: None for s in stages if s.name not in views}
    return list(found)


def _stages_of_maps(run: OpenedRun) -> list[PlannedStage]:
    return [s for s in run.stages.values() if s.kind.makes is Makes.MAPS]
