"""LPCAM's toy of clustering and of normalisation (LPCAM, section 3.2, Figures 2 and 3), computed.

The paper's text gives the numbers of three regions of a bird (its head, its tail, the sky) and not the features behind
them. These features are chosen here so that every number in the text comes out: the mean (12, 5, 4) that the classifier
sees, 130 and 35 in CAM, 1.00 and 0.27 after its normalisation, similarities 1.0 and 0.9 to the two prototypes, and 1.00
and 0.83 in LPCAM after the same normalisation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.experiments.experiment import Found, Ran
from tag2mask.inference.multiscale import normalise
from tag2mask.methods.cam.maps import CAMHead
from tag2mask.methods.lpcam.maps import class_vector, similarity

REGIONS = ("head", "tail", "sky")
FEATURES = ((26.0, 0.0, 2.0), (7.0, 15.0, 5.0), (3.0, 0.0, 5.0))
"""f(x) of each region; the dimensions are the attributes head, tail and sky."""

WEIGHTS = (5.0, 0.0, 0.0)
"""Of the classifier: biased to the head, which dominates the mean of the features."""

PROTOTYPES = ((1.0, 0.0, 0.0), (0.0, 2.0, 1.0))
CONTEXT = (0.0, 0.0, 1.0)

_Columns = dict[str, NDArray[np.float64]]


def toy() -> _Columns:
    """Every number of the toy: (3,) over the regions.

    ``cam`` and ``lpcam`` are before the ReLU and the normalisation, ``*_normalised`` after; ``similarity`` is the
    largest of those to the two class prototypes.
    """
    features = torch.tensor(FEATURES).T[:, None]  # (D, 1, 3): a map of one row
    one = torch.tensor([0])
    cam = CAMHead(torch.tensor([WEIGHTS]))(features[None], one)
    vector = class_vector(torch.tensor(PROTOTYPES), torch.tensor([CONTEXT]))
    lpcam = similarity(vector[None], features)
    to_each = similarity(torch.nn.functional.normalize(torch.tensor(PROTOTYPES), dim=1), features)
    columns = {
        "cam": cam,
        "cam_normalised": normalise(cam),
        "similarity": to_each.amax(dim=0, keepdim=True),
        "lpcam": lpcam,
        "lpcam_normalised": normalise(lpcam.relu()),
    }
    return {name: _values(found) for name, found in columns.items()}


def gap() -> NDArray[np.float64]:
    """The mean of the features, which is all that a classifier with average pooling sees."""
    return np.asarray(np.mean(FEATURES, axis=0), dtype=np.float64)


def lpcam_toy(ran: Ran) -> Found:
    """Compute and draw the toy; needs no data.

    Raises:
        StageError: the figure cannot be written.
    """
    columns = toy()
    rows = tuple(
        ResultRow(region, "toy", 1, "none", None, metric, round(float(values[i]), 4), 0, ran.command)
        for metric, values in columns.items()
        for i, region in enumerate(REGIONS)
    )
    mean = ", ".join(f"{v:g}" for v in gap())
    path = ran.out / "toy.svg"
    _draw(columns, path)
    return Found(
        rows, (path,), (f"mean of the features, all that the classifier sees: ({mean}), most of it the head's",)
    )


def _values(found: Tensor) -> NDArray[np.float64]:
    return np.asarray(found[0, 0].double().numpy())


def _draw(columns: _Columns, out: Path) -> None:
    """Features, CAM and LPCAM of the three regions, as bars."""
    from tag2mask.report.figures import COLOURS, make_panels, save_figure

    figure, panels = make_panels(3, (3.4, 3.0), "panel")
    places, hatches = np.arange(len(REGIONS)), ("", "//", "..")
    for i, name in enumerate(REGIONS):
        panels[0].bar(
            places + 0.25 * (i - 1), [f[i] for f in FEATURES], 0.25, color=COLOURS[i], hatch=hatches[i],
            label=f"attribute {name}", edgecolor="black", linewidth=0.6,
        )  # fmt: skip
    panels[0].set_title("features of the regions", fontsize=10)
    panels[0].legend(frameon=False, fontsize=8)
    for axes, name in zip(panels[1:], ("cam", "lpcam"), strict=True):
        values = columns[f"{name}_normalised"]
        bars = axes.bar(places, values, 0.6, color=COLOURS[4], edgecolor="black", linewidth=0.6)
        axes.bar_label(bars, [f"{v:.2f}" for v in values])
        axes.set_title(f"{name.upper()} after normalisation", fontsize=10)
        axes.set_ylim(0, 1.15)
    for axes in panels:
        axes.set_xticks(places, REGIONS)
    save_figure(figure, "LPCAM's toy: a bird's head, its tail, the sky", out)
