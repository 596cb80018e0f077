"""The input of a stage's runner, and the programs that it returns to make one file per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tag2mask.config.engine import Engine
from tag2mask.config.settings import Settings
from tag2mask.core.errors import StageError
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Ground
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import StageKind

if TYPE_CHECKING:
    from tag2mask.backbones.tagnet import TagNet
    from tag2mask.inference.multiscale import MapHead
    from tag2mask.inference.raw_scores import RawScores


S_co = TypeVar("S_co", bound=Settings, covariant=True)


@dataclass(frozen=True, slots=True)
class StageContext(Generic[S_co]):
    """Everything a stage may use.

    Attributes:
        kind: of the stage.
        name: the instance's name in the recipe.
        settings: of the kind's schema.
        reads: finished artefacts by role.
        split: that the stage works on, as its kind declares; None where that is ``data.val`` and the data has none.
        out: folder in the store to write into.
        seed: of everything random.
        engine: device and workers.
        rank: 0 in the process that writes.
    """

    kind: StageKind[Any]
    name: str
    settings: S_co
    reads: Mapping[str, Artefact]
    split: Dataset | None
    out: Path
    seed: int
    engine: Engine
    rank: int = 0

    @property
    def background(self) -> Ground:
        """What the pixels of no class are to the stage."""
        return "present" if self.split is None else self.split.background

    @property
    def dataset(self) -> Dataset:
        """The split of a stage that needs one.

        Raises:
            StageError: the recipe's data names no such split.
        """
        if self.split is None:
            raise StageError(f"stage '{self.name}' needs a held-out split, but data.val is null; set it")
        return self.split


@dataclass(frozen=True, slots=True)
class MapsProgram:
    """How one stage makes maps from a network's features.

    Attributes:
        network: in evaluation mode, on the CPU; the runner moves it.
        head: features -> maps of one scale.
        raw: gives raw scores to be kept beside the maps; None where none are.
        side: longest side of whole images in the network's training; None where they kept their sizes.
        levels: the features are the network's levels, see `TagNet.levels`.
    """

    network: TagNet
    head: MapHead
    raw: RawScores | None = None
    side: int | None = None
    levels: bool = False


@dataclass(frozen=True, slots=True)
class ImageProgram:
    """How one stage makes one file an image, from files rather than from shared features.

    Attributes:
        prepare: reads what one sample needs; called in threads of this process, ahead of the computing.
        compute: from a list of what ``prepare`` gave to as many results, in order: `ActivationMaps` at stride 4 for
            a stage of ``maps``, (H, W) uint8 labels for one of ``masks``. A result depends on its own input alone.
        batch: images that ``compute`` takes together.
        pooled: ``compute`` pickles (a module's function, or a `functools.partial` of one, with plain arguments), so
            that on a CPU it may run in a pool of processes, each with one thread.
    """

    prepare: Callable[[Sample], Any]
    compute: Callable[[Sequence[Any]], Sequence[ActivationMaps | NDArray[np.uint8]]]
    batch: int = 1
    pooled: bool = False
