"""tag2mask: from image tags to pixel masks.

The public names below load what they need when they are first used, so ``import tag2mask`` is quick.

Example:
    >>> from tag2mask import load_dataset
    >>> load_dataset("parts", split="val", images=4).classes[0]
    'train'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tag2mask.api import run
    from tag2mask.core.types import ActivationMaps, Prototypes
    from tag2mask.data.registry import load_dataset
    from tag2mask.evaluation.metrics import SegmentationMetrics
    from tag2mask.methods.activation_maps import CAM
    from tag2mask.methods.amn.api import AMN
    from tag2mask.methods.lpcam.api import LPCAM
    from tag2mask.pipeline.opened_run import open_run
    from tag2mask.refine.crf.api import DenseCRF
    from tag2mask.refine.walk import random_walk
    from tag2mask.segmentation.model import load

__version__ = "0.1.0"
__all__ = [
    "AMN",
    "CAM",
    "LPCAM",
    "ActivationMaps",
    "DenseCRF",
    "Prototypes",
    "SegmentationMetrics",
    "load",
    "load_dataset",
    "open_run",
    "random_walk",
    "run",
]

_HOMES = {
    "AMN": "tag2mask.methods.amn.api",
    "CAM": "tag2mask.methods.activation_maps",
    "LPCAM": "tag2mask.methods.lpcam.api",
    "ActivationMaps": "tag2mask.core.types",
    "DenseCRF": "tag2mask.refine.crf.api",
    "Prototypes": "tag2mask.core.types",
    "SegmentationMetrics": "tag2mask.evaluation.metrics",
    "load": "tag2mask.segmentation.model",
    "load_dataset": "tag2mask.data.registry",
    "open_run": "tag2mask.pipeline.opened_run",
    "random_walk": "tag2mask.refine.walk",
    "run": "tag2mask.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562).

    Raises:
        AttributeError: there is no such name; the nearest one is given.
    """
    if name not in _HOMES:
        from tag2mask.core.errors import unknown

        raise AttributeError(unknown("name in tag2mask", name, __all__))
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
