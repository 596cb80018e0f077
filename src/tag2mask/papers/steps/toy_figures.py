"""The toys of LPCAM (L6: section 3.2, Figures 2 and 3) and of AMN (A3: Figure 2), computed and drawn without data.

LPCAM's text gives the numbers of three regions of a bird (head, tail, sky) but not their features. These are chosen so
that every number in the text comes out: the mean (12, 5, 4) that the classifier sees, 130 and 35 in CAM, 1.00 and 0.27
after its normalisation, similarities 1.0 and 0.9 to the two prototypes, and 1.00 and 0.83 in normalised LPCAM.
AMN draws two maps of one object, one with two levels and one with a peak, over the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.core.arrays import rounded
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.robustness import analyse_imbalance, robustness
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.threshold_sweep import ThresholdSweep
from tag2mask.inference.multiscale import CAMHead, normalise
from tag2mask.methods.lpcam.maps import class_vector, similarity
from tag2mask.papers.catalogue import FinishedExperiment, StepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """Mean of the features: the input of a classifier with average pooling."""
    return np.asarray(np.mean(FEATURES, axis=0), dtype=np.float64)


def lpcam_toy(run: FinishedExperiment) -> StepResult:
    """Compute and draw the toy."""
    columns = toy()
    rows = tuple(
        ResultRow(region, "toy", 1, "none", None, metric, rounded(values[i]), 0, run.command)
        for metric, values in columns.items()
        for i, region in enumerate(REGIONS)
    )
    mean = ", ".join(f"{v:g}" for v in gap())
    path = run.out / "toy.svg"
    _draw(columns, path)
    return StepResult(
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


SIDE = 64
TOP, BOTTOM, LEFT, RIGHT = 16, 48, 12, 52
"""The object, in pixels; the last row and column are outside."""

TAU = 0.25
"""The threshold that the paper's figure marks."""

Map = NDArray[np.float32]


class ToyImage(Dataset):
    """One image of 64 x 64 pixels with one object."""

    name, split, classes, has_truth = "toy", "toy", ("object",), True
    samples = (Sample("toy", (0,)),)

    def image(self, sample: Sample) -> Image.Image:
        """A plain image."""
        return Image.new("RGB", (SIDE, SIDE))

    def truth(self, sample: Sample) -> Labels:
        """1 in the object, else 0."""
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[TOP:BOTTOM, LEFT:RIGHT] = 1
        return labels


def two_levels() -> Map:
    """A map that meets both of AMN's conditions: 1 on the object, 0.1 elsewhere."""
    return np.where(ToyImage().truth(ToyImage.samples[0]) == 1, 1.0, 0.1).astype(np.float32)


def one_peak() -> Map:
    """A map that meets neither: a peak on part of the object, across its border, and active background."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    peak = np.exp(-(((x - 22) / 14) ** 2 + ((y - 26) / 12) ** 2))
    context = 0.45 * np.exp(-(((x - 56) / 9) ** 2 + ((y - 54) / 9) ** 2))
    found: Map = np.maximum(peak, context).astype(np.float32)
    found /= found.max()
    return found


MAPS = {"two-levels": two_levels, "one-peak": one_peak}


def curve(activation: Map) -> list[tuple[float, float]]:
    """IoU of the object over the thresholds, percent."""
    sweep = ThresholdSweep(ToyImage.classes)
    sweep.update(activation[None], (0,), ToyImage().truth(ToyImage.samples[0]), "toy")
    return [(p.threshold, sweep.scores(p.threshold).iou[1]) for p in sweep.curve()]


def rows(command: str) -> list[ResultRow]:
    """Numbers of both maps: at the figure's threshold, over all thresholds, and of the two conditions."""
    found = []
    for name, make in MAPS.items():
        activation = make()

        def read(_sample: Sample, activation: Map = activation) -> ActivationMaps:
            return ActivationMaps((0,), torch.from_numpy(activation)[None])

        robust = robustness(evaluate_seeds(ToyImage(), read).curve)
        at = dict(curve(activation))[TAU]
        found.append(ResultRow(name, "toy", 1, "fixed", TAU, "iou/object", rounded(at), 0, command))
        origin = Origin(name, 0, command)
        found += robust.results(origin, "toy", 1)
        found += analyse_imbalance(ToyImage(), read).results(origin)
    return found


def threshold_toy(run: FinishedExperiment) -> StepResult:
    """Compute and draw the toy."""
    path = run.out / "toy.svg"
    draw(path)
    return StepResult(tuple(rows(run.command)), (path,))


def draw(out: Path) -> None:
    """Draw both maps, their cross-sections through the object, and IoU over thresholds."""
    from tag2mask.report.figures import make_panels, save_figure

    figure, panels = make_panels(3 * len(MAPS), (3.2, 2.8), "map")
    for i, (name, make) in enumerate(MAPS.items()):
        _draw_row(panels[3 * i : 3 * i + 3], name, make())
    save_figure(figure, "Two maps of one object (AMN, Figure 2)", out)


def _draw_row(panels: Sequence[Axes], name: str, activation: Map) -> None:
    from matplotlib.patches import Rectangle

    shown, section, over = panels
    middle = (TOP + BOTTOM) // 2
    shown.imshow(activation, cmap="gray", vmin=0, vmax=1)
    shown.add_patch(Rectangle((LEFT - 0.5, TOP - 0.5), RIGHT - LEFT, BOTTOM - TOP, fill=False, edgecolor="#d55e00"))
    shown.axhline(middle, color="#56b4e9", linestyle=":", linewidth=1)
    shown.set(title=f"{name}: map and object", xticks=[], yticks=[])
    section.step(range(SIDE), activation[middle], where="mid", color="black")
    section.axvspan(LEFT - 0.5, RIGHT - 0.5, color="#d55e00", alpha=0.15)
    section.axhline(TAU, color="#cc79a7", linestyle="--", label=f"threshold {TAU}")
    section.set(title="cross-section", xlabel="column", ylabel="activation", ylim=(0, 1.05))
    section.legend(frameon=False, fontsize=8)
    points = curve(activation)
    over.plot(*zip(*points, strict=True), color="#0072b2")
    over.axvline(TAU, color="#cc79a7", linestyle="--")
    over.plot([TAU], [dict(points)[TAU]], marker="o", color="#e69f00")
    over.set(title="IoU of the object (%)", xlabel="threshold", xlim=(0, 1), ylim=(0, 105))
