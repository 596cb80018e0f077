"""AMN's Figure 2, computed: two maps of one object, one that any threshold cuts well and one that few do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.evaluation.robustness import analyse_imbalance, robustness
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.threshold_sweep import ThresholdSweep
from tag2mask.experiments.experiment import Found, Ran

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 64
TOP, BOTTOM, LEFT, RIGHT = 16, 48, 12, 52
"""The object, in pixels; the last row and column are outside."""

TAU = 0.25
"""The threshold that the paper's figure marks."""

Map = NDArray[np.float32]


class Toy(Dataset):
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
    """Both conditions met: 1 on the object, 0.1 elsewhere."""
    return np.where(Toy().truth(Toy.samples[0]) == 1, 1.0, 0.1).astype(np.float32)


def one_peak() -> Map:
    """Neither met: a peak on a part of the object that falls off across its border, and some active background."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    peak = np.exp(-(((x - 22) / 14) ** 2 + ((y - 26) / 12) ** 2))
    context = 0.45 * np.exp(-(((x - 56) / 9) ** 2 + ((y - 54) / 9) ** 2))
    found: Map = np.maximum(peak, context).astype(np.float32)
    found /= found.max()
    return found


MAPS = {"two-levels": two_levels, "one-peak": one_peak}


def curve(activation: Map) -> list[tuple[float, float]]:
    """IoU of the object over the thresholds, percent."""
    sweep = ThresholdSweep(Toy.classes)
    sweep.update(activation[None], (0,), Toy().truth(Toy.samples[0]), "toy")
    return [(p.threshold, sweep.scores(p.threshold).iou[1]) for p in sweep.curve()]


def rows(command: str) -> list[ResultRow]:
    """The numbers of both maps: at the threshold of the figure, over all thresholds, and of the two conditions."""
    found = []
    for name, make in MAPS.items():
        activation = make()

        def read(_sample: Sample, activation: Map = activation) -> ActivationMaps:
            return ActivationMaps((0,), torch.from_numpy(activation)[None])

        robust = robustness(evaluate_seeds(Toy(), read).curve)
        at = dict(curve(activation))[TAU]
        found.append(ResultRow(name, "toy", 1, "fixed", TAU, "iou/object", round(at, 4), 0, command))
        found += robust.results(name, "toy", 1, 0, command)
        found += analyse_imbalance(Toy(), read).results(method=name, seed=0, command=command)
    return found


def threshold_toy(ran: Ran) -> Found:
    """Compute and draw the toy; needs no data.

    Raises:
        StageError: the figure cannot be written.
    """
    path = ran.out / "toy.svg"
    draw(path)
    return Found(tuple(rows(ran.command)), (path,))


def draw(out: Path) -> None:
    """Draw maps, their cross-sections through the object, and IoU over thresholds."""
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
