"""What a stretched grid and storing at stride 4 in float16 cost together in mIoU of seeds, and what bfloat16 costs.

python -m benchmarks.deviation RUN --images 150 --out results/voc-animals/deviation.csv

Three forms of CAM and LPCAM on the same images and the same classifier: ``full`` resizes from the feature grid straight
to ceil(H/16) 16, cuts to H x W and stays in float32, as the published code does; ``stored`` is what a run writes, with
the grid stretched over the image; and ``bfloat16`` is what a run writes with precision: bfloat16. ``benchmarks.grid``
takes the grid and storing apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import cpu_name, write_rows
from tag2mask.backbones.files import load_network
from tag2mask.backbones.tagnet import TagNet
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.threshold_sweep import GRID, ThresholdSweep, best
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import CAMHead, MapHead, merge_scales, pair_features
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.lpcam.maps import LPCAMHead
from tag2mask.methods.lpcam.prototypes_file import load_prototypes
from tag2mask.pipeline.opened_run import OpenedRun

SCALES = (1.0, 0.5, 1.5, 2.0)
FORMS = ("full", "stored", "bfloat16")


@dataclass(frozen=True, slots=True)
class Deviation:
    """Best mIoU of one form of one method, and its distance from the reference form."""

    method: str
    form: str
    n_images: int
    threshold: float
    miou: float
    reference: str
    difference: float
    largest_map_difference: float
    cpu: str
    torch: str


def features(network: TagNet, dataset: Dataset, sample: Sample, bfloat16: bool) -> list[Tensor]:
    """Features of image and mirror at every scale."""
    image = dataset.image(sample)
    sizes = [scaled(image.height, image.width, s) for s in SCALES]
    inputs = [image_tensor(image, size, network.mean, network.std) for size in sizes]
    return list(pair_features(network.features, inputs, bfloat16=bfloat16))


def stored(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps as they come back from a file, at the size of the truth."""
    return bilinear(maps.half().float(), height, width)


@torch.inference_mode()
def measure(network: TagNet, heads: dict[str, MapHead], dataset: Dataset, samples: Sequence[Sample]) -> list[Deviation]:
    """Run every form over the samples."""
    sweeps = {(m, f): ThresholdSweep(dataset.classes) for m in heads for f in FORMS}
    largest = dict.fromkeys(sweeps, 0.0)
    for sample in samples:
        truth = dataset.truth(sample)
        assert truth is not None
        height, width = truth.shape
        classes = torch.tensor(sample.tags)
        grown = (-(-height // 16) * 16, -(-width // 16) * 16)
        exact, rough = (features(network, dataset, sample, b) for b in (False, True))
        made = {
            "full": merge_scales(exact, list(heads.values()), classes, grown),
            "stored": merge_scales(exact, list(heads.values()), classes, stride4(height, width)),
            "bfloat16": merge_scales(rough, list(heads.values()), classes, stride4(height, width)),
        }
        for form, several in made.items():
            for method, maps in zip(heads, several, strict=True):
                sized = maps[:, :height, :width] if form == "full" else stored(maps, height, width)
                sweeps[method, form].update(sized.numpy(), sample.tags, truth, sample.id)
                if form == "bfloat16":
                    other = made["stored"][list(heads).index(method)]
                    largest[method, form] = max(largest[method, form], float((maps - other).abs().max()))
    rows = []
    for (method, form), sweep in sweeps.items():
        reference = {"full": "full", "stored": "full", "bfloat16": "stored"}[form]
        top, against = best(sweep.curve(GRID)), best(sweeps[method, reference].curve(GRID))
        rows.append(
            Deviation(
                method=method,
                form=form,
                n_images=len(samples),
                threshold=top.threshold,
                miou=round(top.miou, 3),
                reference=reference,
                difference=round(top.miou - against.miou, 3),
                largest_map_difference=round(largest[method, form], 4),
                cpu=cpu_name(),
                torch=torch.__version__,
            )
        )
    return rows


def finished(run: Path, images: int) -> tuple[TagNet, dict[str, MapHead], Dataset, list[Sample]]:
    """A run's classifier, the heads of CAM and LPCAM on it, its data, and so many of its images, evenly spaced."""
    opened = OpenedRun(run)
    dataset = opened.split(opened.plan.data.infer)
    network, classes = load_network(run / "classifier" / "weights.safetensors")
    network = network.eval().to(memory_format=torch.channels_last)
    prototypes = load_prototypes(run / "prototypes" / "prototypes.safetensors")
    heads: dict[str, MapHead] = {
        "cam": CAMHead(network.class_weights().detach()),
        "lpcam": LPCAMHead(prototypes, len(classes)),
    }
    chosen = np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int)
    samples = [dataset.samples[i] for i in chosen if dataset.samples[i].tags]
    return network, heads, dataset, samples


def main() -> None:
    """Measure on a finished run's classifier and prototypes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="finished run with stages classifier, prototypes")
    parser.add_argument("--images", type=int, default=150, help="images of the split, evenly spaced")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_rows(arguments.out, measure(*finished(arguments.run, arguments.images)))


if __name__ == "__main__":
    main()
