"""The masks that are judged, and what of a run is looked at beside them, image by image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.mask_quality import Look
from tag2mask.evaluation.thresholds import Threshold, cut
from tag2mask.methods.artefact import Artefact
from tag2mask.thresholds.threshold_of import threshold_of

if TYPE_CHECKING:
    from tag2mask.pipeline.asked import AskClassifier, AskScales


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

    def look(self, sample: Sample) -> Look:
        """What the run has stored of one image; called from several threads."""
        mask = self.mask(sample)
        size = mask.shape[0], mask.shape[1]
        others = tuple(o.seeds(self.dataset, sample, size) for o in self.others)
        refined = None if self.refined is None else self.refined.labels(self.dataset, sample)
        look = Look(mask, sample.tags, others=others, refined=refined)
        if self.maps is None:
            return look
        maps, level = self.maps.read(self.dataset, sample, size), self.maps.threshold.of(sample.id, sample.tags)
        return replace(look, maps=maps.maps.numpy(), threshold=level)

    def asked(self, sample: Sample, look: Look) -> Look:
        """The look with what the networks say, as far as they are to be asked."""
        if self.classifier is None:
            return look
        image = self.dataset.image(sample)
        told = self.classifier(image, look.mask, look.classes)
        if self.scales is None:
            return replace(look, told=told)
        ask, threshold = self.scales
        return replace(look, told=told, scales=ask(image, look.classes, threshold.of(sample.id, look.classes)))
