"""AMN on the features of any network: the public class `AMN`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from tag2mask.backbones.feature_layer import feature_layer
from tag2mask.backbones.files import read_about, write_weights
from tag2mask.backbones.hooks import call, check_cells, evaluating, listening, the_map
from tag2mask.backbones.state_dict import load_strict, read_state
from tag2mask.backbones.tagnet import freeze_statistics
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.types import IGNORE, ActivationMaps
from tag2mask.data.transforms import seeded
from tag2mask.methods.activation_maps import CAM, check_images, check_tags, views_of
from tag2mask.methods.amn.maps import class_maps, merged_logits
from tag2mask.methods.amn.network import AmnNet, check_smoothing
from tag2mask.methods.amn.settings import LAST, AmnMapsSettings, AmnSettings
from tag2mask.methods.amn.training import amn_task, with_absent
from tag2mask.training.fit import fit_batches
from tag2mask.training.label_images import at_grid, check_labels

_ENTRY = "amn-on-model"
Batch = tuple[Tensor, Tensor, Tensor]
"""Images (N, 3, H, W), tags (N, C) and refined seeds (N, H, W)."""


class AMN(CAM):
    """Activation maps of a per-pixel classifier conditioned on the tags (AMN paper, section 4).

    `fit` once on images with tags and refined seeds; then call with images and tags, as `CAM`. The model is copied, in
    float32, so that training leaves it alone; its batch-norm statistics stay as they are.

    Args:
        model: any network with a last feature map.
        layer: the module whose output is the feature map, or its dotted name; None finds the last one before the
            pooling.
        condition: eq. 2, the code of the tags multiplies the features; without it, the paper's PCL alone.
        dropout: share of features set to 0 before the head, in training.
        smoothing: of the target, shared by the other classes.
        smoothing_classes: number of classes that ``smoothing`` is meant for; with fewer it is less. None: as it is.
        balanced: background and foreground pixels weigh the same in sum.
        class_weight: from 0 (all pixels weigh alike) to 1 (a class as much as the background of its images); small
            things need little of it. None: as ``balanced`` says.
        absent: share of images shown under the code of one more class, which they lack.
        epochs: passes over the batches of `fit`.
        lr: Adam's rate of the model's parameters.
        head_lr: of label code and head.
        weight_decay: added to the gradient.
        normalise: ``learned`` or ``minmax``, as for the stage ``amn-maps``.
        seed: of first weights and dropout.
        scales: factors on the images' sides; the logits are averaged over them.
        mirror: average with the logits of the mirrored images.

    Raises:
        ConfigError: a number out of its range, an unknown layer.

    Example:
        >>> amn = AMN(model, epochs=5).fit(batches)  # batches of images, tags, refined seeds  # doctest: +SKIP
        >>> amn(images, tags)[0].resize(480, 640).maps  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str | None = None,
        *,
        condition: bool = True,
        dropout: float = 0.1,
        smoothing: float = 0.4,
        smoothing_classes: int | None = None,
        balanced: bool = True,
        class_weight: float | None = None,
        absent: float = 0.0,
        epochs: int = 5,
        lr: float = 5e-6,
        head_lr: float = 1e-4,
        weight_decay: float = 1e-4,
        normalise: str = "learned",
        seed: int = 0,
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
    ) -> None:
        super().__init__(model, layer, scales=scales, mirror=mirror)
        rates = {"epochs": epochs, "lr": lr, "head_lr": head_lr, "weight_decay": weight_decay, "accumulate": 1}
        loss = {
            "smoothing": smoothing, "smoothing_classes": smoothing_classes,
            "balanced": balanced, "class_weight": class_weight, "absent": absent,
        }  # fmt: skip
        values = {"condition": (LAST,) if condition else (), "dropout": dropout, **loss, "train": rates}
        self.settings = validate(AmnSettings, values, "AMN")
        if normalise == "background-prior":
            raise ConfigError("normalise = 'background-prior' needs refined seeds at each call: use minmax or learned")
        self.normalise = validate(AmnMapsSettings, {"normalise": normalise}, "AMN").normalise
        self.seed = seed
        self._net: AmnNet | None = None

    def fit(self, batches: Iterable[Batch]) -> Self:
        """Train on images with tags and refined seeds, from the model's own weights.

        Args:
            batches: triples of images (N, 3, H, W), normalised as the model expects and on its device, multi-hot tags
                (N, C), and refined seeds (N, H, W): 0 background, c + 1 class column c, 255 ignored. Gone through
                ``epochs`` times, each batch one step: a list or a loader; a generator for ``epochs=1`` only.

        Raises:
            ConfigError: no layer of the model can be used, such as in a network of tokens, or the smoothing is too
                strong for the number of classes.
            DataError: no batch, a batch of a wrong form, NaN images, refined seeds that do not belong to the tags or
                are all ignored, or a generator that ends before the last epoch.
            TrainingError: the loss is NaN or infinite.
        """
        if not isinstance(batches, Iterable):
            raise DataError(f"fit expects batches, such as a list or a loader, got {type(batches).__name__}")
        with torch.inference_mode(False), torch.enable_grad():  # whatever is set around the call
            return self._fit(batches)

    def _fit(self, batches: Iterable[Batch]) -> Self:
        source = iter(batches)
        first = next(source, None)
        if first is None:
            raise DataError("fit got no batch: give batches of (images, tags, refined_seeds)")
        images, tags, _ = triple(first)
        net = self._build(images, tags)
        device = next(net.parameters()).device
        epochs = Epochs(net, batches, chain([first], source), device, self.settings.absent, self.seed)
        fit_batches(amn_task(net, self.settings), epochs, device, self.seed)
        self._net = net.eval()
        return self

    def __call__(self, images: Tensor, tags: Tensor) -> list[ActivationMaps]:
        """Maps of the classes that each image is tagged with.

        Args:
            images: (N, 3, H, W), normalised as the model expects, on its device.
            tags: (N, C) multi-hot.

        Returns:
            For each image its maps (K, h, w) on the feature grid of scale 1 (of the first scale where 1 is not among
            them), K = 0 where it has no tags.

        Raises:
            DataError: images or tags of a wrong shape, NaN or infinite images.
            StageError: neither `fit` nor `load` has been called.
            WeightsError: the logits are not finite.
        """
        net = self._trained()
        check_images(images)
        check_tags(tags, len(images), net.n_classes)
        conditions = tags.to(images.device, torch.float32)
        with evaluating(net):
            views = (views_of(images.float(), scale, self.mirror) for scale in self.scales)
            pyramid = [call(net, view, torch.cat([conditions] * (1 + self.mirror))) for view in views]
        grid = pyramid[self.scales.index(1.0) if 1.0 in self.scales else 0]
        check_cells(grid, images, str(net.body.layer))
        found = []
        for i, row in enumerate(conditions):
            classes = row.nonzero()[:, 0]
            # The mirror image of image i lies len(images) further on.
            merged = merged_logits((p[i :: len(images)] for p in pyramid), (grid.shape[2], grid.shape[3]))
            found.append(ActivationMaps(tuple(classes.tolist()), class_maps(merged, classes, self.normalise)))
        return found

    def save(self, path: str | Path) -> None:
        """Write the trained network, the copy of the model included, as safetensors.

        Raises:
            StageError: there is none yet, or the file cannot be written.
        """
        net = self._trained()
        sizes = {"channels": net.head.dilated()[0].in_channels, "n_classes": net.n_classes}
        about = {"layer": net.body.layer, "condition": sorted(map(int, net.codes)), **sizes}
        write_weights(net, Path(path), {_ENTRY: about})

    def load(self, path: str | Path) -> Self:
        """Read a network that `save` wrote, onto a model of the same form.

        Raises:
            WeightsError: the file is missing, damaged, something else, or of another model.
        """
        about = read_about(Path(path)).get(_ENTRY)
        if not isinstance(about, dict):
            raise WeightsError(f"{path} holds no AMN on a model of your own; make one with AMN(model).fit(...).save")
        try:
            net = self._around(self._copy(), about["layer"], about["channels"], about["n_classes"], about["condition"])
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"{path} does not fit the model: {error}. Load it with the model it was made from"
            ) from error
        load_strict(net, read_state(Path(path)), str(path), f"AMN on this {type(self.model).__name__}")
        self._net = net.eval()
        return self

    def _trained(self) -> AmnNet:
        if self._net is None:
            raise StageError("AMN is not trained yet: call fit(batches) or load(path) first")
        return self._net

    def _build(self, images: Tensor, tags: Tensor) -> AmnNet:
        """A fresh network on a copy of the model, for images and tags as in the first batch."""
        check_images(images)
        n_classes = tags.shape[1] if isinstance(tags, Tensor) and tags.dim() == 2 else 0
        check_tags(tags, len(images), max(1, n_classes))
        check_smoothing(self.settings.smoothed(n_classes), n_classes)
        model = self._copy()
        name, channels = feature_layer(model, images.float(), self._layer)
        return self._around(model, name, channels, n_classes, self.settings.condition).to(images.device)

    def _copy(self) -> nn.Module:
        """The model by now, for AMN alone, in float32."""
        with torch.inference_mode(False):
            return copy.deepcopy(self.model).float()

    def _around(self, model: nn.Module, layer: str, channels: int, n_classes: int, condition: Sequence[int]) -> AmnNet:
        """A fresh network on a model up to a layer."""
        model.get_submodule(layer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = AmnNet(UpTo(model, layer), channels, n_classes, condition, dropout=self.settings.dropout)
        freeze_statistics(net)
        return net.to(next(net.body.parameters()).device)


class UpTo(nn.Module):
    """The features that a layer of a model gives, with gradients.

    Args:
        model: runs as a whole.
        layer: dotted name.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to features (N, D, h, w)."""
        seen: list[Any] = []
        with listening({self.model.get_submodule(self.layer): lambda _m, _i, output: seen.append(output)}):
            self.model(images)
        features = the_map(seen, self.layer)
        return features.clone() if features.is_inference() else features  # of a model that is never to be trained


class Epochs:
    """Checked batches, with refined seeds on the grid of the logits, once an epoch.

    Args:
        net: whose grid it is.
        batches: the user's.
        first: all of them, for the first epoch, whose first batch has been looked at.
        device: of the images.
        absent: share of images to whose tags an absent class is added.
        seed: of which.
    """

    def __init__(
        self,
        net: AmnNet,
        batches: Iterable[Any],
        first: Iterator[Any],
        device: torch.device,
        absent: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.net, self.batches, self.device, self.absent, self.seed = net, batches, device, absent, seed
        self._shown = 0
        self._first: Iterator[Any] | None = first
        self._grids: dict[tuple[int, int], tuple[int, int]] = {}

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; raises `DataError` where a batch is wrong, or every pixel is ignored."""
        source, self._first = self._first or iter(self.batches), None
        count = labelled = 0
        for batch in source:
            images, tags, labels = self._checked(triple(batch))
            count += 1
            labelled += int((labels != IGNORE).count_nonzero())
            yield images, self._with_absent(tags), labels
        if not count:
            raise DataError(
                "the batches ended before the last epoch: a generator can be read once only. Give fit a list or a "
                "loader, or set epochs=1"
            )
        if not labelled:
            raise DataError("every pixel of all refined seeds is ignored (255), so there is nothing to learn from")

    def _with_absent(self, tags: Tensor) -> Tensor:
        """The tags (N, C), to some of which a class is added: others in each batch, the same in each training."""
        if not self.absent:
            return tags
        self._shown += 1
        with seeded(self.seed, 0, self._shown):
            return torch.stack([with_absent(row, self.absent) for row in tags.cpu()]).to(tags.device)

    def _checked(self, batch: Batch) -> Batch:
        images, tags, seeds = batch
        check_images(images)
        check_tags(tags, len(images), self.net.n_classes)
        size = (images.shape[2], images.shape[3])
        if not isinstance(seeds, Tensor) or tuple(seeds.shape) != (len(images), *size):
            got = tuple(seeds.shape) if isinstance(seeds, Tensor) else type(seeds).__name__
            raise DataError(f"refined_seeds must be a tensor (N, H, W) = {(len(images), *size)}, got {got}")
        names = [f"class column {c}" for c in range(tags.shape[1])]
        for i, (labels, row) in enumerate(zip(seeds, tags, strict=True)):
            check_labels(labels.unique().tolist(), names, f"image {i} of a batch", row.nonzero()[:, 0].tolist())
        if size not in self._grids:
            self._grids[size] = self.net.grid(*size, channels=images.shape[1])
        # a copy of images made under torch.inference_mode, which training cannot use, and none of their gradients
        images = images.clone() if images.is_inference() else images.detach()
        return images.float(), tags.float(), at_grid(seeds, *self._grids[size]).to(torch.uint8)


def triple(batch: object) -> Batch:
    """The three parts of a batch.

    Raises:
        DataError: it has not three.
    """
    if not (isinstance(batch, tuple | list) and len(batch) == 3):
        raise DataError(f"fit expects triples (images, tags, refined_seeds), got {type(batch).__name__}")
    return batch[0], batch[1], batch[2]
