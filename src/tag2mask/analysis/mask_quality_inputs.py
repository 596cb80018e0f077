"""Collects the inputs of the mask-quality analyses from a finished run: masks, and what belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tag2mask.core.errors import ConfigError, StageError, unknown
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.mask_quality import MaskEvidence
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.cam.kinds import CLASSIFIER
from tag2mask.methods.context import StageContext
from tag2mask.methods.stage_kinds import FeatureMapStage, ImageStage, Makes
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.plan import PlannedStage, is_prediction
from tag2mask.thresholds.threshold_of import threshold_of

if TYPE_CHECKING:
    from tag2mask.analysis.mask_evidence import ClassifierOnParts, SingleScaleMasks


@dataclass(frozen=True, slots=True)
class CutMaps:
    """Maps and the threshold that a stage of the run cuts them at."""

    artefact: Artefact
    threshold: Threshold

    def read(self, dataset: Dataset, sample: Sample, size: tuple[int, int]) -> ActivationMaps:
        """The maps of a sample at (height, width)."""
        found = self.artefact.maps(dataset, sample, self.threshold.scores)
        return ActivationMaps(found.classes, found.maps.float()).resize(*size)

    def seeds(self, dataset: Dataset, sample: Sample, size: tuple[int, int]) -> LabelImage:
        """The maps of a sample at (height, width), cut."""
        maps = self.read(dataset, sample, size)
        return self.threshold.seeds(dataset, sample, maps.maps.numpy(), maps.classes)


@dataclass(frozen=True, slots=True)
class MaskInputs:
    """The masks that are assessed, and what is looked at beside them.

    Attributes:
        name: of the stage.
        method: its name without the seed.
        seed: of the stage.
        dataset: the split that it went over.
        masks: what it made, where that is masks; None for maps, which are cut.
        maps: the maps behind the masks; None where these come from a segmentation network.
        others: maps of the other methods.
        refined: refined seeds of these maps, or of what they were made from; None where there are none.
        classifier: runs the classifier on parts of an image, where that was wanted.
        scales: makes the masks of single scales, where that was wanted and there are several, with the threshold.
    """

    name: str
    method: str
    seed: int
    dataset: Dataset
    masks: Artefact | None
    maps: CutMaps | None
    others: tuple[CutMaps, ...]
    refined: Artefact | None
    classifier: ClassifierOnParts | None = None
    scales: tuple[SingleScaleMasks, Threshold] | None = None

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """All that the assessment rests on; ground truth that chose a threshold of any of these has been seen."""
        every = (*self.others, *([] if self.maps is None else [self.maps]))
        found = (self.masks, self.refined, *(maps.artefact for maps in every))
        return tuple(artefact for artefact in found if artefact is not None)

    @property
    def own(self) -> Artefact:
        """What the masks are, or are cut from."""
        if self.masks is not None:
            return self.masks
        assert self.maps is not None
        return self.maps.artefact

    @property
    def threshold(self) -> Threshold:
        """That the masks were cut at, as far as there is one."""
        if self.masks is not None:
            return threshold_of(self.masks)
        assert self.maps is not None
        return self.maps.threshold

    def mask(self, sample: Sample) -> LabelImage:
        """The mask of one image, (H, W) labels; called from several threads."""
        if self.masks is not None:
            return self.masks.labels(self.dataset, sample)
        assert self.maps is not None  # what has no masks has maps
        return self.maps.seeds(self.dataset, sample, self.dataset.image(sample).size[::-1])

    def evidence(self, sample: Sample) -> MaskEvidence:
        """What the run has stored of one image; called from several threads."""
        mask = self.mask(sample)
        size = mask.shape[0], mask.shape[1]
        others = tuple(o.seeds(self.dataset, sample, size) for o in self.others)
        refined = None if self.refined is None else self.refined.labels(self.dataset, sample)
        evidence = MaskEvidence(mask, sample.tags, others=others, refined=refined)
        if self.maps is None:
            return evidence
        maps, threshold = self.maps.read(self.dataset, sample, size), self.maps.threshold
        return replace(
            evidence,
            maps=maps.maps.numpy(),
            threshold=threshold.of(sample.id, sample.tags),
            background=threshold.background,
            sides=threshold.background.read(self.dataset, sample, size),
        )

    def with_networks(self, sample: Sample, evidence: MaskEvidence) -> MaskEvidence:
        """The evidence with what the networks say, as far as they are to be run."""
        if self.classifier is None:
            return evidence
        image = self.dataset.image(sample)
        classified = self.classifier(image, evidence.mask, evidence.classes)
        if self.scales is None:
            return replace(evidence, classifier=classified)
        masks_of, threshold = self.scales
        cut = partial(threshold.seeds, self.dataset, sample, classes=evidence.classes)
        return replace(evidence, classifier=classified, scales=masks_of(image, evidence.classes, cut))


def find_masks(run: OpenedRun, stage: str | None = None, *, classifier: bool = False) -> MaskInputs:
    """Find the masks to assess in a run, and what belongs to them; see `MaskInputs`."""
    chosen = _subject(run, stage)
    behind = chosen if chosen.kind.makes is Makes.MAPS else run.finished.get(chosen.reads.get("maps", ""))
    split = run.split_of(chosen)
    found = MaskInputs(
        chosen.name,
        chosen.base_name,
        chosen.seed,
        run.split(split),
        run.artefact(chosen.name) if chosen.kind.makes is Makes.MASKS else None,
        None if behind is None else _maps_behind(run, chosen, behind),
        _others(run, behind, split),
        _refined(run, chosen, behind, split),
    )
    return _with_networks(run, found, chosen) if classifier else found


def stages_with_masks(run: OpenedRun) -> tuple[str, ...]:
    """Names of the finished stages whose masks can be assessed, predictions included."""
    return tuple(s.name for s in run.finished.values() if _has_masks(run, s) and _is_cut(run, s))


def _subject(run: OpenedRun, name: str | None) -> PlannedStage:
    """The named stage, checked; the last one of masks, else of maps that are cut, where there is no name."""
    fit = [s for s in run.stages.values() if _has_masks(run, s)]
    if name is not None:
        named = next((s for s in fit if s.name == name), None)
        if named is None:
            raise ConfigError(_unfit(run, name, [s.name for s in fit]))
        run.artefact(name)  # refuses one that is not finished
        if not _is_cut(run, named):
            raise StageError(f"no finished stage of {run.path} cuts '{name}'; resume: {run.command}")
        return named
    made = [s for s in fit if run.is_finished(s.name) and not is_prediction(run.plan, s) and _is_cut(run, s)]
    if not made:
        run.check_links()
        raise ConfigError(
            f"{run.path} has no masks to assess: no finished stage of pseudo-masks, nor of maps that another stage "
            f"cuts. Resume it: {run.command}"
        )
    return [*(s for s in made if s.kind.makes is Makes.MAPS), *(s for s in made if s.kind.makes is Makes.MASKS)][-1]


def _unfit(run: OpenedRun, name: str, fit: Sequence[str]) -> str:
    if name not in run.stages:
        return unknown("stage of masks or maps", name, fit)
    return (
        f"stage '{name}' has no masks to assess: expected masks without ignored pixels, or maps that another stage "
        f"cuts. Such are: {', '.join(fit) or 'none of this recipe'}"
    )


def _has_masks(run: OpenedRun, stage: PlannedStage) -> bool:
    if stage.kind.makes is Makes.MASKS:
        return not any(_leaves_ignored(made) for made in run.plan.may_be(stage))
    return stage.kind.makes is Makes.MAPS and any(_cuts(s, stage) for s in run.stages.values())


def _leaves_ignored(stage: PlannedStage) -> bool:
    return isinstance(stage.kind, ImageStage) and stage.kind.leaves_ignored


def _is_cut(run: OpenedRun, stage: PlannedStage) -> bool:
    """Whether a finished stage is of masks, or of maps that another finished stage cuts."""
    return stage.kind.makes is Makes.MASKS or _cut_maps(run, stage) is not None


def _maps_behind(run: OpenedRun, chosen: PlannedStage, behind: PlannedStage) -> CutMaps | None:
    """The maps that masks were cut from, at the very threshold; for maps, at that of `_cut_maps`."""
    own = threshold_of(run.artefact(chosen.name))
    return _cut_maps(run, behind) if own.kind == "none" else CutMaps(run.artefact(behind.name), own)


def _cut_maps(run: OpenedRun, stage: PlannedStage) -> CutMaps | None:
    """The maps of a stage at the first threshold that a finished stage cuts them at; None where none does."""
    found = (threshold_of(run.artefact(reader.name)) for reader in run.finished.values() if _cuts(reader, stage))
    threshold = next((threshold for threshold in found if threshold.kind != "none"), None)
    return None if threshold is None else CutMaps(run.artefact(stage.name), threshold)


def _others(run: OpenedRun, behind: PlannedStage | None, split: str) -> tuple[CutMaps, ...]:
    """The cut maps of every other finished stage over the same split."""
    others = [s for s in run.finished.values() if s is not behind and s.kind.makes is Makes.MAPS]
    found = [_cut_maps(run, s) for s in others if run.plan.split_of(s) == split]
    return tuple(maps for maps in found if maps is not None)


def _refined(run: OpenedRun, chosen: PlannedStage, behind: PlannedStage | None, split: str) -> Artefact | None:
    """Refined seeds of the maps behind the masks, else the nearest that these were made from; over one split."""
    of_maps = [s.name for s in run.finished.values() if behind is not None and s.reads.get("maps") == behind.name]
    for artefact in (*map(run.artefact, of_maps), *run.artefact(chosen.name).upstream()):
        stage = run.stages[artefact.name]
        if _leaves_ignored(stage) and run.plan.split_of(stage) == split:
            return artefact
    return None


def _with_networks(run: OpenedRun, inputs: MaskInputs, chosen: PlannedStage) -> MaskInputs:
    """The networks too: the classifier, and the nearest maps behind the masks that come from several scales."""
    above = [run.stages[artefact.name] for artefact in run.artefact(chosen.name).upstream()]
    known = [s for s in (*above, *run.finished.values()) if s.kind is CLASSIFIER]
    if not known:
        raise ConfigError(f"{run.path} has no finished classifier to run; leave --classifier out")
    from tag2mask.analysis.mask_evidence import classifier_on_parts, single_scale_masks

    engine = run.plan.recipe.engine
    found = replace(inputs, classifier=classifier_on_parts(run.artefact(known[0].name), engine))
    for stage in above:
        maps = _cut_maps(run, stage) if stage.kind.makes is Makes.MAPS else None
        if maps is not None and isinstance(stage.kind, FeatureMapStage):
            assert isinstance(stage.settings, MapsSettings)  # as `FeatureMapStage` declares
            made = maps.artefact
            program = stage.kind.load()(
                StageContext(
                    stage.kind, stage.name, stage.settings, made.reads, inputs.dataset, made.path,
                    stage.seed, engine,
                )
            )  # fmt: skip
            return replace(found, scales=(single_scale_masks(program, stage.settings, engine), maps.threshold))
    return found


def _cuts(reader: PlannedStage, maps: PlannedStage) -> bool:
    """Whether a stage cuts these maps: it reads them, and has a threshold or reads one."""
    cuts = "threshold" in reader.reads or reader.kind.threshold is not None
    return reader.reads.get("maps") == maps.name and cuts
