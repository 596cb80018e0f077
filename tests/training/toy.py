"""Small things to train on, and a training that another process can run and kill."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tag2mask.config.engine import Engine
from tag2mask.config.settings import validate
from tag2mask.core.files import atomic_path
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.transforms import TrainTransform
from tag2mask.training import fit as loop
from tag2mask.training.checkpoint import write_checkpoint
from tag2mask.training.fit import fit
from tag2mask.training.images import TagImages
from tag2mask.training.losses import multilabel_soft_margin
from tag2mask.training.settings import TrainSettings
from tag2mask.training.task import Batch, Task, parameter_groups

HALF = (0.5, 0.5, 0.5)


def engine(**values: Any) -> Engine:
    """An engine on the CPU."""
    return validate(Engine, {"device": "cpu", **values}, "engine")


class Drawn(Dataset):
    """Images of noise in which each class brightens a channel (class c channel c modulo 3) of its own quarter."""

    name, split = "drawn", "train"

    def __init__(self, tags: list[tuple[int, ...]], n_classes: int = 3, size: tuple[int, int] = (40, 52)) -> None:
        self.classes = tuple(f"class {c}" for c in range(n_classes))
        self.samples = [Sample(f"{i:03d}", t) for i, t in enumerate(tags)]
        self.size = size

    def image(self, sample: Sample) -> Image.Image:
        height, width = self.size
        pixels = np.random.default_rng(int(sample.id)).integers(0, 80, (height, width, 3)).astype(np.uint8)
        for c in sample.tags:
            rows, columns = (c // 3 % 2) * height // 2, (c % 2) * width // 2
            pixels[rows : rows + height // 2, columns : columns + width // 2, c % 3] += 150
        return Image.fromarray(pixels)

    def truth(self, sample: Sample) -> Labels | None:
        return None

    @property
    def has_truth(self) -> bool:
        return False

    def content_hash(self, sample: Sample) -> str:
        return sample.id


class Toy(Task):
    """Two convolutions, dropout and a head; ``at_kill`` is called before step ``kill_step`` of this run."""

    def __init__(self, settings: TrainSettings, n_classes: int = 3) -> None:
        torch.manual_seed(7)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(8, 8, 3), nn.ReLU())
        net = nn.ModuleDict({"body": body, "head": nn.Linear(8, n_classes)})
        groups = parameter_groups(list(net["body"].parameters()), list(net["head"].parameters()), settings)
        super().__init__(net, settings, groups, self.loss_of, self.count)
        self.steps = 0
        self.poison_step = -1
        self.kill_step = -1
        self.at_kill: Callable[[], object] = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def count(self, batch: Batch) -> None:
        self.steps += 1

    def logits(self, images: Tensor) -> Tensor:
        """Images (N, 3, h, w) to (N, C)."""
        logits: Tensor = self.net.get_submodule("head")(self.net.get_submodule("body")(images).mean((2, 3)))
        return logits

    def loss_of(self, part: Batch, counts: Tensor | None) -> Tensor:
        if self.steps - 1 == self.kill_step:
            self.at_kill()
        images, tags = part
        loss = multilabel_soft_margin(self.logits(images), tags)
        return loss * float("nan") if self.steps - 1 == self.poison_step else loss


def train_settings(**values: Any) -> TrainSettings:
    """A training of three short epochs."""
    small = {"epochs": 3, "batch_size": 4, "lr": 0.01, "head_lr": 0.02, "long_side": (30, 44), "crop": 32}
    return validate(TrainSettings, {**small, **values}, "train")


def images(n: int = 13, seed: int = 3) -> TagImages:
    """Drawn images with one or two classes each."""
    tags = [(i % 3,) if i % 2 else tuple(sorted({i % 3, (i + 1) % 3})) for i in range(n)]
    return TagImages(Drawn(tags), Drawn(tags).samples, TrainTransform(32, HALF, HALF, long_side=(30, 44)), seed)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all weights."""
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def _break_the_second_save() -> None:
    """Kill the process with the checkpoint of the second epoch half-written."""

    def half(path: Path, identity: str, state: dict[str, Any]) -> None:
        if state["epoch"] < 2:
            write_checkpoint(path, identity, state)
            return
        with atomic_path(path) as temporary:
            temporary.write_bytes(path.read_bytes()[:500])
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(loop, "write_checkpoint", half)  # noqa: B010  # of another module, which imported it


def main(out: Path, accumulate: int, kill: str) -> None:
    """Train the toy; ``kill`` is a step, ``save`` or ``never``."""
    torch.set_num_threads(1)
    settings = train_settings(accumulate=accumulate)
    module = Toy(settings)
    if kill == "save":
        _break_the_second_save()
    elif kill != "never":
        module.kill_step = int(kill)
    fit(module, images(), out=out, seed=3, engine=engine())
    if os.environ.get("RANK", "0") == "0":
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, out / "toy.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
