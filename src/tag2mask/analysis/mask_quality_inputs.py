"""The masks that are judged, and what of a run is looked at beside them, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tag2mask.core.errors import ConfigError, StageError, unknown
from tag2mask.core.manifest import MANIFEST
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.mask_quality import MaskEvidence
from tag2mask.evaluation.thresholds import Threshold, cut
from tag2mask.inference.settings import MapsSettings
from tag2mask.label_images.kinds import RefinedSeedsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.evaluate_run import finished, open_split, own_split
from tag2mask.pipeline.keys import keys_of
from tag2mask.pipeline.plan import Plan, PlannedStage, make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.thresholds.threshold_of import threshold_of

if TYPE_CHECKING:
    from tag2mask.analysis.mask_evidence import AskClassifier, AskScales


@dataclass(frozen=True, slots=True)
class CutMaps:
    """Maps and the threshold that a stage of the run cuts them at."""

    artefact: Artefact
    threshold: Threshold

    def read(self, dataset: Dataset, sample: Sample, size: tuple[int, int]) -> ActivationMaps:
        """The maps of a sample at (height, width)."""
        found = self.artefact.maps(dataset, sample)
        return ActivationMaps(found.classes, found.maps.float()).resize(*size)

    def seeds(self, dataset: Dataset, sample: Sample, size: tuple[int, int]) -> LabelImage:
        """The maps of a sample at (height, width), cut."""
        maps = self.read(dataset, sample, size)
        return cut(maps.maps.numpy(), maps.classes, self.threshold.of(sample.id, maps.classes))


@dataclass(frozen=True, slots=True)
class JudgedMasks:
    """The masks that are judged, and what is looked at beside them.

    Attributes:
        name: of the stage.
        seed: of the stage.
        dataset: the split that it went over.
        masks: what it made, where that is masks; None for maps, which are cut.
        maps: the maps behind the masks; None where these come from a segmentation network.
        others: maps of the other methods.
        refined: refined seeds of these maps, or of what they were made from; None where there are none.
        classifier: asks the classifier, where that was wanted.
        scales: makes the masks of single scales, where that was wanted and there are several, with the threshold.
    """

    name: str
    seed: int
    dataset: Dataset
    masks: Artefact | None
    maps: CutMaps | None
    others: tuple[CutMaps, ...]
    refined: Artefact | None
    classifier: AskClassifier | None = None
    scales: tuple[AskScales, Threshold] | None = None

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """All that the judgement rests on; a truth that chose a threshold of any of these has been seen."""
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

    def look(self, sample: Sample) -> MaskEvidence:
        """What the run has stored of one image; called from several threads."""
        mask = self.mask(sample)
        size = mask.shape[0], mask.shape[1]
        others = tuple(o.seeds(self.dataset, sample, size) for o in self.others)
        refined = None if self.refined is None else self.refined.labels(self.dataset, sample)
        evidence = MaskEvidence(mask, sample.tags, others=others, refined=refined)
        if self.maps is None:
            return evidence
        maps, level = self.maps.read(self.dataset, sample, size), self.maps.threshold.of(sample.id, sample.tags)
        return replace(evidence, maps=maps.maps.numpy(), threshold=level)

    def asked(self, sample: Sample, evidence: MaskEvidence) -> MaskEvidence:
        """The evidence with what the networks say, as far as they are to be asked."""
        if self.classifier is None:
            return evidence
        image = self.dataset.image(sample)
        told = self.classifier(image, evidence.mask, evidence.classes)
        if self.scales is None:
            return replace(evidence, classifier=told)
        ask, threshold = self.scales
        return replace(
            evidence, classifier=told, scales=ask(image, evidence.classes, threshold.of(sample.id, evidence.classes))
        )


PREDICTIONS = "predictions"


def find_judged(run: Path, stage: str | None = None, *, classifier: bool = False) -> JudgedMasks:
    """Find the masks to judge in a run, and what belongs to them; see `JudgedMasks`.

    Args:
        run: the run folder.
        stage: as for `analyse_quality`.
        classifier: prepare the networks too.

    Raises:
        StageError: no run, or a stage that is not finished.
        ConfigError: an unknown stage, one without masks to judge, or no classifier to ask.
    """
    found = _Finished(run)
    chosen = found.subject(stage)
    behind = chosen if chosen.kind.makes is Makes.MAPS else found.stages.get(chosen.reads.get("maps", ""))
    split = own_split(found.plan, chosen)
    judged = JudgedMasks(
        chosen.name,
        chosen.seed,
        open_split(found.plan, split),
        found.artefact(chosen) if chosen.kind.makes is Makes.MASKS else None,
        None if behind is None else found.maps_behind(chosen, behind),
        tuple(found.others(behind, split)),
        found.refined(chosen, behind, split),
    )
    return found.with_networks(judged, chosen) if classifier else judged


def judgeable(run: Path) -> tuple[str, ...]:
    """Names of the finished stages whose masks can be judged, predictions included.

    Raises:
        StageError: no run.
    """
    found = _Finished(run)
    return tuple(s.name for s in found.stages.values() if found.has_masks(s) and found.is_cut(s))


class _Finished:
    """The finished stages of a run."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, RunFolder.existing(run)
        self.plan: Plan = make_plan(self.folder.recipe())
        self.keys = keys_of(self.folder.store.root)
        every = {s.name: s for s in self.plan.stages}
        self.stages: Mapping[str, PlannedStage] = {
            n: s for n, s in every.items() if (self.folder.artefact(n) / MANIFEST).is_file()
        }

    def artefact(self, stage: PlannedStage) -> Artefact:
        return finished(self.folder, self.plan, stage, self.keys)

    def subject(self, name: str | None) -> PlannedStage:
        """The named stage, checked; the last one of masks, else of maps that are cut, where there is no name."""
        fit = [s for s in self.plan.stages if self.has_masks(s)]
        if name is not None:
            named = next((s for s in fit if s.name == name), None)
            if named is None:
                raise ConfigError(self._unfit(name, [s.name for s in fit]))
            self.artefact(named)  # refuses one that is not finished
            if not self.is_cut(named):
                raise StageError(f"no finished stage of {self.run} cuts '{name}'; go on: {self.folder.command}")
            return named
        made = [s for s in fit if s.name in self.stages and s.kind.name != PREDICTIONS and self.is_cut(s)]
        if not made:
            raise ConfigError(
                f"{self.run} has no masks to judge: no finished stage of pseudo-masks, nor of maps that another stage "
                f"cuts. Go on with it: {self.folder.command}"
            )
        return [*(s for s in made if s.kind.makes is Makes.MAPS), *(s for s in made if s.kind.makes is Makes.MASKS)][-1]

    def _unfit(self, name: str, fit: Sequence[str]) -> str:
        if name not in {s.name for s in self.plan.stages}:
            return unknown("stage of masks or maps", name, fit)
        return (
            f"stage '{name}' has no masks to judge: expected masks without unsure pixels, or maps that another stage "
            f"cuts. Such are: {', '.join(fit) or 'none of this recipe'}"
        )

    def has_masks(self, stage: PlannedStage) -> bool:
        if stage.kind.makes is Makes.MASKS:
            return not isinstance(stage.settings, RefinedSeedsSettings)
        return stage.kind.makes is Makes.MAPS and any(_cuts(s, stage) for s in self.plan.stages)

    def is_cut(self, stage: PlannedStage) -> bool:
        """Whether a finished stage is of masks, or of maps that another finished stage cuts."""
        return stage.kind.makes is Makes.MASKS or self.cut_maps(stage) is not None

    def maps_behind(self, chosen: PlannedStage, behind: PlannedStage) -> CutMaps | None:
        """The maps that masks were cut from, at the very threshold; for maps, at that of `cut_maps`."""
        own = threshold_of(self.artefact(chosen))
        return self.cut_maps(behind) if own.kind == "none" else CutMaps(self.artefact(behind), own)

    def cut_maps(self, stage: PlannedStage) -> CutMaps | None:
        """The maps of a stage at the first threshold that a finished stage cuts them at; None where none does."""
        for reader in (s for s in self.stages.values() if _cuts(s, stage)):
            threshold = threshold_of(self.artefact(reader))
            if threshold.kind != "none":
                return CutMaps(self.artefact(stage), threshold)
        return None

    def others(self, behind: PlannedStage | None, split: str) -> Iterator[CutMaps]:
        """The cut maps of every other finished stage over the same split."""
        for stage in self.stages.values():
            if stage.kind.makes is Makes.MAPS and stage is not behind and self.plan.split_of(stage) == split:
                maps = self.cut_maps(stage)
                if maps is not None:
                    yield maps

    def refined(self, chosen: PlannedStage, behind: PlannedStage | None, split: str) -> Artefact | None:
        """Refined seeds of the maps behind the masks, else the nearest that these were made from; over one split."""
        of_maps = [s for s in self.stages.values() if behind is not None and s.reads.get("maps") == behind.name]
        for stage in (*of_maps, *self.upstream(chosen)):
            if isinstance(stage.settings, RefinedSeedsSettings) and self.plan.split_of(stage) == split:
                return self.artefact(stage)
        return None

    def upstream(self, stage: PlannedStage) -> list[PlannedStage]:
        """The stage and all that it was made from, nearest first."""
        found, waiting = [stage], [stage]
        while waiting:
            sources = [self.stages[name] for name in waiting.pop(0).reads.values() if name in self.stages]
            new = [s for s in sources if s not in found]
            found += new
            waiting += new
        return found

    def with_networks(self, judged: JudgedMasks, chosen: PlannedStage) -> JudgedMasks:
        """The networks too: the classifier, and the nearest maps behind the masks that come from several scales."""
        above = self.upstream(chosen)
        known = [s for s in (*above, *self.stages.values()) if s.kind.name == "classifier"]
        if not known:
            raise ConfigError(f"{self.run} has no finished classifier to ask; leave --classifier out")
        from tag2mask.analysis.mask_evidence import ask_classifier, ask_scales

        engine = self.plan.recipe.engine
        asked = replace(judged, classifier=ask_classifier(self.artefact(known[0]), engine))
        for stage in above:
            maps = self.cut_maps(stage) if stage.kind.makes is Makes.MAPS else None
            if maps is not None and isinstance(stage.settings, MapsSettings):
                program = stage.kind.load()(self._context(stage, judged.dataset))
                return replace(asked, scales=(ask_scales(program, stage.settings, engine), maps.threshold))
        return asked

    def _context(self, stage: PlannedStage, dataset: Dataset) -> StageContext[Any]:
        """What a stage of maps is given to make its program; it writes nothing."""
        made = self.artefact(stage)
        engine = self.plan.recipe.engine
        return StageContext(
            stage.kind, stage.name, stage.settings, made.reads, lambda _: dataset, made.path, stage.seed, engine
        )


def _cuts(reader: PlannedStage, maps: PlannedStage) -> bool:
    """Whether a stage cuts these maps: it reads them, and has a threshold or reads one."""
    cuts = "threshold" in reader.reads or reader.kind.threshold is not None
    return reader.reads.get("maps") == maps.name and cuts
