"""The linear layer that reads the mean of a feature map: finding it, reading its weights, and seeing that it is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tag2mask.backbones.hooks import evaluating
from tag2mask.backbones.probe import Event, Probe
from tag2mask.core.errors import WeightsError

_AGREEMENT = 1e-3
_INSTEAD = (
    "CAM and LPCAM need the mean of a feature map, read by one linear layer or 1 x 1 convolution; AMN learns on any "
    "feature map"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a classifier's weights are read.

    Attributes:
        name: dotted name of the module.
        kind: its class, so that another one in its place is noticed.
        direct: its ``weight`` is what it computes with; else its answers to the unit vectors are, as with LoRA.
        shape: of one input: (D,), or (D, 1, 1) for a convolution.
    """

    name: str
    kind: type[nn.Module]
    direct: bool
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """What a classifier computes: ``weights @ x + bias``.

    Attributes:
        weights: (C, D) float32, detached.
        bias: (C,) float32, detached.
    """

    weights: Tensor
    bias: Tensor

    def fits(self, inputs: Tensor, outputs: Tensor, agreement: float) -> bool:
        """Whether inputs (N, D) gave outputs (N, C)."""
        if inputs.shape[1] != self.weights.shape[1] or outputs.shape != (len(inputs), len(self.weights)):
            return False
        bound = inputs.abs() @ self.weights.abs().T + self.bias.abs()
        return _near(outputs, inputs @ self.weights.T + self.bias, bound, agreement)


def affine_of(module: nn.Module, reading: Reading) -> Affine | None:
    """What a module computes by now; None where it is another one than the one read."""
    if type(module) is not reading.kind:
        return None
    if reading.direct:
        return _by_weight(module)
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    return _by_answers(module, torch.zeros(1, *reading.shape, dtype=like.dtype, device=like.device))


def find_reading(seen: Probe, layer: Event) -> Reading:
    """The module that makes the scores out of the mean of a layer."""
    after = seen.events[seen.events.index(layer) + 1 :]
    after = tuple(event for event in after if event.alone and (seen.no_gradient or event.slope is not None))
    mean = layer.output.detach().float().mean((2, 3))
    reading = [event for event in after if _reads(event, mean)]
    for direct in (True, False):
        for event in reversed(reading):
            assert event.given is not None  # it was compared with the mean
            affine = _by_weight(event.module) if direct else _by_answers(event.module, torch.zeros_like(event.given))
            if affine is not None and _makes_scores(seen, layer, event, affine):
                return Reading(event.name, type(event.module), direct, tuple(event.given.shape[1:]))
    raise WeightsError(_why_not(layer, after, reading))


def belongs(features: Tensor, given: Tensor, output: Tensor, affine: Affine) -> bool:
    """Whether a classifier still reads the mean of the features, and computes as said, in the pass that has just been.

    Args:
        features: (N, D, h, w); where they are not finite nothing can be seen, and it is taken for granted.
        given: its input, N rows.
        output: its output, N rows.
        affine: what it is said to compute.
    """
    mean, inputs = features.float().mean((2, 3)), given.flatten(1).float()
    if not bool(torch.isfinite(mean).all()):
        return True
    agreement = _agreement(features, given, output)
    size = features.float().abs().mean((2, 3)).amax(1, keepdim=True)
    if mean.shape != inputs.shape or not _near(inputs, mean, size, agreement):
        return False
    return affine.fits(inputs, output.flatten(1).float(), agreement)


def _reads(event: Event, mean: Tensor) -> bool:
    """Whether an event was given the mean of the features."""
    given = event.given
    if given is None or not given.is_floating_point() or len(given) != 1 or given.numel() != mean.numel():
        return False
    return _near(given.detach().flatten(1).float(), mean, mean.abs().amax(), _agreement(given))


def _makes_scores(seen: Probe, layer: Event, event: Event, affine: Affine) -> bool:
    """Whether the scores are an affine function of the mean of the layer, and depend on the layer in no other way."""
    assert event.given is not None  # as above
    agreement = _agreement(event.given, event.output)
    outputs = event.output.detach().flatten(1).float()
    if not affine.fits(event.given.detach().flatten(1).float(), outputs, agreement):
        return False
    if seen.scores is not None and not _in_order(outputs[0], seen.scores.float(), agreement):
        return False
    if layer.slope is None or event.slope is None:
        return bool(seen.no_gradient)
    slope, cells = event.slope.flatten(1).float(), layer.output.shape[2] * layer.output.shape[3]
    if slope.numel() == 1 and seen.mixture is not None and float(slope) * float(seen.mixture) < 0:
        return False  # one score, turned round
    expected, bound = slope @ affine.weights / cells, slope.abs() @ affine.weights.abs() / cells
    alive = layer.output.detach().flatten(2).abs().amax((0, 2)) > 0  # at 0 everywhere a ReLU has no slope of its own
    found = layer.slope.float().flatten(2)[:, alive]
    return _near(found, expected[:, alive, None], bound[:, alive, None], agreement)


def _in_order(outputs: Tensor, scores: Tensor, agreement: float) -> bool:
    """Whether scores (C,) rise with the classifier's outputs (C,), as under a sigmoid or softmax."""
    if outputs.shape != scores.shape:
        return False
    steps = scores[outputs.argsort()].diff()
    return bool((steps >= -agreement * scores.abs().max()).all())


def _near(found: Tensor, expected: Tensor, size: Tensor, agreement: float) -> bool:
    """Whether numbers agree up to a share of the size of what they are summed from; NaN does not."""
    return bool(((found - expected).abs() <= agreement * size + torch.finfo(torch.float32).tiny).all())


def _agreement(*tensors: Tensor) -> float:
    """How near numbers must be that were computed in the least exact of these types."""
    return max(_AGREEMENT, *(4 * torch.finfo(tensor.dtype).eps for tensor in tensors))


def _by_weight(module: nn.Module) -> Affine | None:
    """A linear layer or 1 x 1 convolution by its parameters."""
    pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    if not (isinstance(module, nn.Linear) or pointwise):
        return None
    with evaluating(module):  # to read weights that are computed, as with spectral_norm, changes them in training
        weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)  # as both have
    weights = weight.detach().flatten(1).float()
    return Affine(weights, bias.detach().float() if isinstance(bias, Tensor) else weights.new_zeros(len(weights)))


def _by_answers(module: nn.Module, zero: Tensor) -> Affine | None:
    """Any module by its answers to zero (1, D) or (1, D, 1, 1) and to the unit vectors; None where it gives none."""
    units = torch.eye(zero.numel(), dtype=zero.dtype, device=zero.device).reshape(-1, *zero.shape[1:])
    try:
        with evaluating(module):
            answers = module(torch.cat([zero.detach(), units]))
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return None
    if not isinstance(answers, Tensor) or len(answers) != len(units) + 1:
        return None
    rows = answers.detach().flatten(1).float()
    weights = (rows[1:] - rows[0]).T
    identity = weights.shape[0] == weights.shape[1] and torch.equal(weights, torch.eye(len(weights)).to(weights))
    return None if identity else Affine(weights, rows[0])  # dropout and flattening are not a classifier


def _why_not(layer: Event, after: Sequence[Event], reading: Sequence[Event]) -> str:
    """The text for a classifier that is not one linear layer on the mean of the features."""
    linear = [(event, affine.weights.shape[1]) for event in after if (affine := _by_weight(event.module))]
    channels = layer.output.shape[1]
    if not linear:
        return (
            f"no linear layer or 1 x 1 convolution runs after layer '{layer.name}'. {_INSTEAD}. If the scores are a "
            "linear layer on its mean that is not a module, pass weights= (classes, channels)"
        )
    last, width = linear[-1]
    if width != channels:
        return (
            f"the classifier '{last.name}' takes {width} numbers, but layer '{layer.name}' has {channels} channels: it "
            f"is not one linear layer on pooled features{_between(after, last)}. {_INSTEAD}"
        )
    if last not in reading:
        return (
            f"the logits are not '{last.name}' applied to the mean of layer '{layer.name}': something (a norm, an "
            f"activation, another pooling) lies between{_between(after, last)}, so its weights do not give the maps. "
            f"{_INSTEAD}"
        )
    return (
        f"the class scores are not those of '{last.name}' on the mean of layer '{layer.name}': they depend on the "
        f"layer in another way too, or come in another order or sign, so its weights do not give the maps. {_INSTEAD}"
    )


def _between(after: Sequence[Event], last: Event) -> str:
    """The modules with weights between a layer and its classifier, in words."""
    inner = [
        e
        for e in after[: after.index(last)]
        if not any(e.module.children()) and next(e.module.parameters(), None) is not None
    ]
    words = [f"'{e.name}' ({type(e.module).__name__})" for e in inner]
    return f" ({', '.join(words)})" if words else ""
