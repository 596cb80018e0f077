"""AMN beside the same backbone and the same dilated head in plain torch: training step, and maps of an image.

Run ``python -m benchmarks.amn``; it writes ``results/amn.csv``. The plain forms have no label code: a loop of forward,
cross-entropy, backward, Adam over parts of a batch; and each scale and its mirror image through the network in turn,
logits resized, averaged, softmax. The claim: a training step takes at most 1.05 times as long (ratio at least 0.95),
and so do maps.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.common import RESULTS, Row, compare, write_rows
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.settings import validate
from tag2mask.methods.amn.maps import class_maps, image_logits
from tag2mask.methods.amn.network import BackboneAmn, build_amn
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.methods.amn.training import amn_task
from tag2mask.training.fit import fit_batches

CLASSES, BATCH, PARTS, CROP, STEPS = 6, 16, 4, 256, 5
IMAGE = (375, 500)
SIZE = (-(-IMAGE[0] // 4), -(-IMAGE[1] // 4))
SCALES = (1.0, 0.5, 1.5, 2.0)
CPU = torch.device("cpu")


class Plain(nn.Module):
    """Backbone and dilated head, without a label code.

    Args:
        net: whose backbone and head are copied.
    """

    def __init__(self, net: BackboneAmn) -> None:
        super().__init__()
        self.body, self.convs = copy.deepcopy(net.body), copy.deepcopy(net.head.convs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, C + 1, h, w)."""
        features = self.body(images)
        return torch.stack([conv(features) for conv in self.convs]).sum(0)


def settings(backbone: str, weights: str) -> AmnSettings:
    """AMN at stride 16 with the light schedule."""
    train = {"epochs": 1, "batch_size": BATCH, "accumulate": PARTS, "crop": CROP, "lr": 5e-5, "head_lr": 3e-4}
    body = BackboneSettings.model_validate({"name": backbone, "stride": 16, "weights": weights})
    return validate(AmnSettings, {"backbone": body.model_dump(), "train": train}, "amn")


def training(chosen: AmnSettings, runs: int) -> Row:
    """Some training steps, ours by Lightning as the stage does them, theirs by a loop."""
    net = build_amn(chosen, CLASSES)
    generator = torch.Generator().manual_seed(0)
    grid = net.grid(CROP, CROP)
    images = torch.randn(BATCH, 3, CROP, CROP, generator=generator)
    tags = (torch.rand(BATCH, CLASSES, generator=generator) < 0.5).float()
    labels = torch.randint(0, CLASSES + 1, (BATCH, *grid), generator=generator, dtype=torch.uint8)
    ours, plain = copy.deepcopy(net), Plain(net).train()
    adam = torch.optim.Adam(plain.parameters(), 5e-5)

    def step() -> None:
        for part, truth in zip(images.chunk(PARTS), labels.long().chunk(PARTS), strict=True):
            logits = plain(part.contiguous(memory_format=torch.channels_last))
            torch.autograd.backward(functional.cross_entropy(logits, truth, ignore_index=255) / PARTS)
        adam.step()
        adam.zero_grad()

    epoch: Any = [(images, tags, labels)] * STEPS  # a list of batches serves torch's loader as a data set
    batches: DataLoader[Any] = DataLoader(epoch, batch_size=None)

    def fit() -> None:
        fit_batches(amn_task(ours, chosen), batches, CPU, seed=0)

    def loop() -> None:
        for _ in range(STEPS):
            step()

    return compare("amn", fit, loop, runs, variant=f"training step, {chosen.backbone.name}")


def maps(chosen: AmnSettings, runs: int) -> list[Row]:
    """Maps of one image of VOC's size at four scales with mirror images, in float32 and in bfloat16."""
    net = build_amn(chosen, CLASSES).eval()
    plain = Plain(net).eval().to(memory_format=torch.contiguous_format)
    ours = for_inference(net, CPU)
    noise = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(2))
    sizes = [(round(IMAGE[0] * s), round(IMAGE[1] * s)) for s in SCALES]
    images = [functional.interpolate(noise, size, mode="bicubic")[0] for size in sizes]
    present, tags = torch.tensor([0, 3]), functional.one_hot(torch.tensor(0), CLASSES).float()

    @torch.inference_mode()
    def theirs() -> Tensor:
        logits = []
        for image in images:
            for mirrored in (False, True):
                found = plain((image.flip(-1) if mirrored else image)[None])
                found = functional.interpolate(found, SIZE, mode="bilinear", align_corners=False)[0]
                logits.append(found.flip(-1) if mirrored else found)
        values = torch.stack(logits).mean(0).softmax(0)[present + 1]
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        return (values - low) / (high - low)

    def own(bfloat16: bool) -> Callable[[], Tensor]:
        @torch.inference_mode()
        def made() -> Tensor:
            return class_maps(image_logits(ours, images, tags, SIZE, mirror=True, bfloat16=bfloat16), present, "minmax")

        return made

    name = chosen.backbone.name
    return [
        compare("amn", own(bfloat16), theirs, runs, variant=f"maps, {name}, {precision}")
        for bfloat16, precision in ((False, "float32"), (True, "bfloat16"))
    ]


def main() -> None:
    """Time training and maps and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="bundled", help="initial weights of the backbone")
    parser.add_argument("--out", type=Path, default=RESULTS / "amn.csv")
    arguments = parser.parse_args()
    chosen = settings(arguments.backbone, arguments.weights)
    write_rows(arguments.out, [training(chosen, arguments.runs), *maps(chosen, arguments.runs)])


if __name__ == "__main__":
    main()
