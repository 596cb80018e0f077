"""A small store as an earlier version left it; ``python -m tests.pipeline.old_store`` makes it anew.

The zip holds the photos (an image's file is part of the keys, and other versions of Pillow write other bytes), the
artefacts of a tiny run of ``light`` (which was ``own-data`` then) with its resolved recipe, and those of a training
that was stopped after its first epoch. Weights are rounded before they are written, so that the zip stays small: keys
take what the files hold.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tag2mask import run
from tag2mask.backbones import files
from tag2mask.training.images import TagImages
from tests.helpers.draw import draw_folder
from tests.helpers.tiny import tiny_overrides

PACKED = Path(__file__).with_suffix(".zip")
RECIPE = "light"
HALF = ("seeds=[1]", "classifier.train.optimiser=sgd")
"""Overrides of the training that was stopped: without moments, which would make its checkpoint three times as large."""
_DECODER = 'segmenter.network.decoder={"decoder_pyramid_channels":16,"decoder_segmentation_channels":32}'
_BATCHES = 3
"""Batches loaded before the training is stopped: within its second epoch."""


class Stopped(Exception):
    """Ends a training."""


@dataclass(frozen=True)
class OldStore:
    """The unpacked store.

    Attributes:
        root: folder of ``photos`` and ``runs``; below the latter the store and the run folder ``old``.
        words: overrides of the run, its data included.
        artefacts: instance name -> name of its folder in the store.
        half: name of the folder of the training that was stopped.
    """

    root: Path
    words: tuple[str, ...]
    artefacts: Mapping[str, str]
    half: str

    @property
    def store(self) -> Path:
        """Folder of the artefacts."""
        return self.root / "runs" / ".store"

    def state(self) -> dict[str, tuple[int, bytes]]:
        """Each file of the finished artefacts with the time of its last change and its content."""
        kept = sorted(set(self.artefacts.values()))
        paths = [p for name in kept for p in sorted((self.store / name).rglob("*")) if p.is_file()]
        return {str(p.relative_to(self.store)): (p.stat().st_mtime_ns, p.read_bytes()) for p in paths}


def unpack(root: Path) -> OldStore:
    """Unpack the store below a folder."""
    with zipfile.ZipFile(PACKED) as packed:
        packed.extractall(root)
    about = json.loads((root / "about.json").read_text(encoding="utf-8"))
    return OldStore(root, (*about["words"], f"data.root={root / 'photos'}"), about["artefacts"], about["half"])


def main() -> None:
    """Make the runs and pack what they leave."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        root = Path(name)
        draw_folder(root / "photos")
        words = [*tiny_overrides(RECIPE), _DECODER]
        data = f"data.root={root / 'photos'}"
        patch.setattr(files, "save_file", _rounded(save_file))
        whole = run(RECIPE, *words, data, out=root / "runs" / "old")
        _stop_in_second_epoch(patch)
        with pytest.raises(Stopped):
            run(RECIPE, *words, *HALF, data, out=root / "runs" / "half", only=["classifier"])
        artefacts = {done.stage.name: done.artefact.path.name for done in whole.stages}
        (half,) = (p.parent.name for p in (root / "runs" / ".store").glob("*/checkpoint.ckpt"))
        about = json.dumps({"words": words, "artefacts": artefacts, "half": half}, indent=1)
        (root / "about.json").write_text(about + "\n", encoding="utf-8")
        stored = [p for a in {*artefacts.values(), half} for p in (root / "runs" / ".store" / a).rglob("*")]
        photos = (root / "photos").rglob("*")
        _pack(root, [root / "about.json", root / "runs" / "old" / "recipe.yaml", *stored, *photos])


def _rounded(save: Any) -> Any:
    """Writes weights with 8 bits of precision: half of each number's bytes are 0."""

    def save_rounded(tensors: Mapping[str, Tensor], *args: Any) -> None:
        save({n: t.bfloat16().to(t.dtype) if t.is_floating_point() else t for n, t in tensors.items()}, *args)

    return save_rounded


def _stop_in_second_epoch(patch: pytest.MonkeyPatch) -> None:
    load, left = TagImages.__getitems__, [_BATCHES]

    def load_or_stop(images: TagImages, places: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return load(images, places)

    patch.setattr(TagImages, "__getitems__", load_or_stop)


def _pack(root: Path, paths: Iterable[Path]) -> None:
    with zipfile.ZipFile(PACKED, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(p for p in paths if p.is_file()):
            packed.writestr(zipfile.ZipInfo(path.relative_to(root).as_posix()), path.read_bytes(), packed.compression)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
