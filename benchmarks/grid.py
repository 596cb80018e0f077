"""What laying the grid of features over the image costs in mIoU of seeds, and what storing the maps costs besides.

tag2mask run light --only prototypes data=voc data.root=../shared/data/voc-animals \
    data.classes=[cat,cow,dog,horse,person,sheep] data.infer=train@benchmarks/voc-animals-150.txt \
    classifier.train.epochs=3 classifier.train.long_side=[160,320] classifier.train.crop=192 \
    cam.scales=[1.0] cam.mirror=false --out runs/grid
python -m benchmarks.grid runs/grid --out results/voc-animals/grid.csv

CAM and LPCAM of the same features in four forms: the grid ``aligned`` or ``stretched``, the maps ``full`` (resized from
the grid straight to the image, float32, as the published code does where aligned) or ``stored`` (what a run writes:
float16 at stride 4). The threshold is the best of all for each form.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

import torch

from benchmarks.common import cpu_name, write_rows
from benchmarks.deviation import SCALES, features, finished, stored
from tag2mask.backbones.tagnet import TagNet
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_sweep import GRID, ThresholdSweep, best
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import MapHead, merge_scales
from tag2mask.inference.settings import Grid, MapsSettings

FORMS = ("full", "stored")


@dataclass(frozen=True, slots=True)
class GridRow:
    """Best mIoU of one method in one form; ``difference`` is from the published form, full and aligned."""

    method: str
    grid: str
    form: str
    n_images: int
    threshold: float
    miou: float
    difference: float
    cpu: str
    torch: str
    command: str


@torch.inference_mode()
def measure(
    network: TagNet, heads: dict[str, MapHead], dataset: Dataset, samples: Sequence[Sample], command: str
) -> list[GridRow]:
    """Run every form over the samples."""
    grids: tuple[Grid, ...] = tuple(reversed(get_args(Grid)))
    sweeps = {key: ThresholdSweep(dataset.classes) for key in product(heads, grids, FORMS)}
    for sample in samples:
        truth = dataset.truth(sample)
        assert truth is not None
        height, width = truth.shape
        classes = torch.tensor(sample.tags)
        found = features(network, dataset, sample, bfloat16=False)
        for grid, form in product(grids, FORMS):
            part = MapsSettings(scales=SCALES, grid=grid).part((height, width), network.stride)
            size = (height, width) if form == "full" else stride4(height, width)
            made = merge_scales(found, list(heads.values()), classes, size, part)
            for method, maps in zip(heads, made, strict=True):
                sized = maps if form == "full" else stored(maps, height, width)
                sweeps[method, grid, form].update(sized.numpy(), sample.tags, truth, sample.id)
    rows = []
    for (method, grid, form), sweep in sweeps.items():
        top, published = best(sweep.curve(GRID)), best(sweeps[method, "aligned", "full"].curve(GRID))
        rows.append(
            GridRow(
                method=method,
                grid=grid,
                form=form,
                n_images=len(samples),
                threshold=top.threshold,
                miou=round(top.miou, 3),
                difference=round(top.miou - published.miou, 3),
                cpu=cpu_name(),
                torch=torch.__version__,
                command=command,
            )
        )
    return rows


def main() -> None:
    """Measure on a finished run's classifier and prototypes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="finished run with stages classifier, prototypes")
    parser.add_argument("--images", type=int, default=150, help="images of the split, evenly spaced")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    command = f"python -m benchmarks.grid {arguments.run} --images {arguments.images} --out {arguments.out}"
    write_rows(arguments.out, measure(*finished(arguments.run, arguments.images), command))


if __name__ == "__main__":
    main()
