"""One pass through any classifier, forward and backward: what each module gave, and whether the scores depend on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

from tag2mask.backbones.hooks import call, evaluation_mode
from tag2mask.core.errors import ConfigError, WeightsError

_ALL = 1e-2
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """A module that has run once.

    Attributes:
        name: its dotted name.
        module: itself.
        given: its first input, if that is a tensor.
        output: what it gave: a tensor, or one of several.
        alone: whether the tensor is all that it gave.
        slope: gradient of a random mixture of the scores with respect to the output; None where they do not depend
            on it, or there are no gradients at all.
    """

    name: str
    module: nn.Module
    given: Tensor | None
    output: Tensor
    alone: bool
    slope: Tensor | None

    @property
    def spatial(self) -> bool:
        """Whether the output has something at several places of the image, as maps and tokens have."""
        if isinstance(self.module, nn.modules.pooling._AdaptiveAvgPoolNd | nn.modules.pooling._AdaptiveMaxPoolNd):
            return False  # the pooling itself, even if it leaves 7 x 7 cells: their number is not the image's
        shape = self.output.shape
        if len(shape) < 3:
            return len(shape) == 2 and shape[0] > 1  # the tokens of one image in rows
        return sum(side > 1 for side in shape[1:]) > 1


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What one image showed.

    Attributes:
        events: modules in the order of finishing, those that gave tensors.
        scores: (C,) class scores of the image, or None where the output is not a row of scores.
        mixture: (C,) weights of the random mixture of scores that the slopes are of.
        no_gradient: why there are no gradients; empty where there are.
        image: (1, 3, H, W), the first of the graph that the outputs belong to.
        image_slope: gradient of the mixture with respect to it; None where the scores do not depend on it.
    """

    events: tuple[Event, ...]
    scores: Tensor | None
    mixture: Tensor | None
    no_gradient: str
    image: Tensor
    image_slope: Tensor | None

    def carries_all(self, event: Event) -> bool:
        """Whether all that the scores have of the image comes through an event, or that cannot be seen."""
        if event.slope is None or self.image_slope is None:
            return True
        with torch.inference_mode(False):
            through = torch.autograd.grad(event.output, self.image, event.slope, retain_graph=True, allow_unused=True)[
                0
            ]
        whole = self.image_slope
        return through is not None and float((through - whole).norm()) <= _ALL * float(whole.norm())

    def towards_scores(self) -> list[Event]:
        """The events that the scores depend on."""
        return [event for event in self.events if event.slope is not None]


def probe(model: nn.Module, images: Tensor) -> Probe:
    """Run a model on the first of some images; nothing is left on it, and no gradient kept.

    It is computed in float32 or better, whatever the model's own precision.

    Args:
        model: any classifier.
        images: (N, 3, H, W).
    """
    records: list[tuple[str, nn.Module, Tensor | None, Tensor, bool]] = []

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> Any:
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        if isinstance(output, Tensor):
            output = _tracked(output)
            records.append((name, module, given, output, True))
            return output
        known = {id(record[3]) for record in records}
        records.extend((name, module, given, one, False) for one in _tensors(output) if id(one) not in known)
        return None

    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        exact = _exact(model)
        for name, module in _modules(exact):
            hook = module.register_forward_hook(lambda m, i, o, name=name: note(name, m, i, o))
            stack.callback(hook.remove)
            stack.callback(module.register_forward_pre_hook(_with_gradients).remove)
        stack.enter_context(evaluation_mode(exact))
        image = images[:1].detach().clone()
        image = (image if exact is model else image.float()).requires_grad_()
        with _Uncut():
            roots = _scores(call(exact, image.clone()))  # a model may change it in place
        slopes, mixtures, no_gradient = _slopes(roots, [image, *(record[3] for record in records)])
    events = tuple(Event(*record, slopes.get(id(record[3]))) for record in records)
    whole = slopes.get(id(image))
    seen = [event for event in events if event.slope is not None]
    if not no_gradient and whole is None and not any(event.spatial for event in seen):
        where = f"module '{seen[0].name}' ({type(seen[0].module).__name__})" if seen else "the scores"
        no_gradient = f"its gradient ends at {where}"
    row = len(roots) == 1 and roots[0].dim() == 2
    scores, mixture = (roots[0][0].detach(), mixtures[0][0]) if row else (None, None)
    return Probe(events, scores, mixture, no_gradient, image, whole)


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that images go through: not those that make weights of others."""
    inner = {id(m) for part in model.modules() if isinstance(part, ParametrizationList) for m in part.modules()}
    return [(name, module) for name, module in model.named_modules() if id(module) not in inner]


def _exact(model: nn.Module) -> nn.Module:
    """The model, or a copy in float32 where its weights are of half precision or can have no gradients."""
    tensors = list(chain(model.parameters(), model.buffers()))
    if not any(tensor.is_inference() or tensor.dtype in _HALF for tensor in tensors):
        return model
    return copy.deepcopy(model).float()


class _Uncut(TorchFunctionMode):
    """Undoes a model's own ``detach``, as that of frozen features."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The function itself, or the tensor that should have been cut off."""
        if func in (torch.Tensor.detach, torch.detach):
            return args[0]
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):  # for which it was cut off
            args = (args[0].detach(), *args[1:])
        return func(*args, **(kwargs or {}))


def _with_gradients(_module: nn.Module, _inputs: Any) -> None:
    """Undo a model's own ``no_grad``, such as that around a frozen part."""
    torch.set_grad_enabled(True)


def _tracked(output: Tensor) -> Tensor:
    """The output, made to have gradients where the model cuts them off, such as by ``detach``."""
    if output.requires_grad or not output.is_floating_point() or output.is_inference():
        return output
    return output + output.new_zeros(()).requires_grad_()


def _tensors(output: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)


def _scores(output: Any) -> list[Tensor]:
    """The class scores in what a model gives; all its tensors where none is (N, C)."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    found = [t for t in _tensors(output if logits is None else logits) if t.is_floating_point()]
    if not found:
        got = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(
            f"the model gives {got}, expected class scores: a floating tensor (N, C), the first such of a tuple, or "
            "one named 'logits'. Wrap the model in a module whose forward returns them"
        )
    rows = [t for t in found if t.dim() == 2]
    chosen = rows[:1] or found
    if not all(bool(torch.isfinite(one).all()) for one in chosen):
        raise WeightsError(
            "the model's class scores are NaN or infinite for an image that is finite: its weights are damaged, or its "
            "training diverged. Load other weights"
        )
    return chosen


def _slopes(roots: list[Tensor], outputs: list[Tensor]) -> tuple[dict[int, Tensor], list[Tensor], str]:
    """By identity, the gradient of a mixture of the roots for each output that they depend on; why there is none."""
    numbers = torch.Generator().manual_seed(0)
    mixtures = [torch.randn(root.shape, generator=numbers).to(root) for root in roots]
    wanted = {id(one): one for one in outputs if one.requires_grad}
    pairs = [(root, mixture) for root, mixture in zip(roots, mixtures, strict=True) if root.requires_grad]
    if not pairs or not wanted:
        return {}, mixtures, "its scores carry no gradient, as under torch.inference_mode"
    try:
        found = torch.autograd.grad(
            [root for root, _ in pairs],
            list(wanted.values()),
            [mix for _, mix in pairs],
            allow_unused=True,
            retain_graph=True,
        )
    except (RuntimeError, NotImplementedError) as error:
        return {}, mixtures, f"its gradient cannot be computed: {str(error).splitlines()[0]}"
    return {key: slope for key, slope in zip(wanted, found, strict=True) if slope is not None}, mixtures, ""
