"""Evidence from the networks behind a mask: the classifier on parts of its image, the maps of single scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.backbones.folded import for_inference
from tag2mask.config.engine import Engine
from tag2mask.core.resize import bilinear
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.mask_quality import ClassProbabilities
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import merge_scales, pair_features
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.cam.classifier import load_classifier
from tag2mask.methods.context import MapsProgram
from tag2mask.training.device import resolve_device

ClassifierOnParts = Callable[[Image.Image, LabelImage, Sequence[int]], ClassProbabilities]
SingleScaleMasks = Callable[
    [Image.Image, Sequence[int], Callable[[NDArray[np.float32]], LabelImage]], tuple[LabelImage, ...]
]


def classifier_on_parts(classifier: Artefact, engine: Engine) -> ClassifierOnParts:
    """A classifier that is run on an image, on its masks alone, and on what is left without them.

    What is painted over has the mean colour of the network's inputs, 0 after normalising.

    Args:
        classifier: the finished stage.
        engine: device.

    Returns:
        A function of an image, its mask (H, W) and the class columns of its tags.
    """
    net = load_classifier(classifier.path, engine)

    def probabilities(image: Image.Image, mask: LabelImage, classes: Sequence[int]) -> ClassProbabilities:
        shown = [c for c in classes if (mask == c + 1).any()]
        if not shown:
            return ClassProbabilities((), (), ())
        size = net.size(image)
        photo = net.tensor(image, size).to(net.device)
        inside = [_resized(mask == c + 1, size).to(net.device) for c in shown]
        views = [photo, *(photo * m for m in inside), *(photo * (1 - m) for m in inside)]
        values = net.probabilities(views)[:, shown]
        own = np.arange(len(shown))
        return ClassProbabilities(
            tuple(values[0].tolist()), tuple(values[1 + own, own].tolist()),
            tuple(values[1 + len(shown) + own, own].tolist()),
        )  # fmt: skip

    return probabilities


def single_scale_masks(program: MapsProgram, settings: MapsSettings, engine: Engine) -> SingleScaleMasks:
    """Masks from the maps of each scale alone; nothing where there is one scale only.

    Args:
        program: of the stage of maps.
        settings: of that stage: scales, mirror, precision, grid.
        engine: device.

    Returns:
        A function of an image, the class columns of its tags and what cuts its maps (K, H, W).
    """
    device = resolve_device(engine)
    net = for_inference(program.network, device)

    @torch.inference_mode()
    def masks(
        image: Image.Image, classes: Sequence[int], cut: Callable[[NDArray[np.float32]], LabelImage]
    ) -> tuple[LabelImage, ...]:
        if len(settings.scales) < 2 or not classes:
            return ()
        height, width = image.height, image.width
        base = settings.base((height, width), program.side)
        views = (image_tensor(image, scaled(*base, s), net.mean, net.std).to(device) for s in settings.scales)
        bfloat16 = settings.precision == "bfloat16"
        columns = torch.tensor(list(classes), device=device)
        found = []
        for features in pair_features(net.features, views, mirror=settings.mirror, bfloat16=bfloat16):
            part = settings.part(base, net.stride)
            (maps,) = merge_scales([features], [program.head], columns, stride4(height, width), part)
            found.append(cut(bilinear(maps.cpu(), height, width).numpy()))
        return tuple(found)

    return masks


def _resized(inside: NDArray[np.bool_], size: Sequence[int]) -> Tensor:
    """A mask (H, W) as shares 0..1 at another size."""
    return bilinear(torch.from_numpy(inside).float()[None], *size)[0]
