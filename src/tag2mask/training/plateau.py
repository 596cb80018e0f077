"""A training that ends by itself: its rates stay until images that are held out are learned no better, then fall to 0.

Rates that fall need to know when the training ends, and how long a network takes to learn its tags is known of no data
set beforehand. So they stay while the loss of the held-out images falls, and only then go to 0, over a share of the
steps so far. What is decided depends on weights alone, and the checkpoint holds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.training.settings import ScheduleSettings, StopSettings

_MOST_HELD = 256
"""Images held out at most: more say nothing more, and each check costs a pass over all."""
_LEFT = 2
"""Images of each class that train at least, whatever is held out."""


class Plateau:
    """Checks the held-out loss at ends of epochs, and decides when the rates fall and the training ends.

    Args:
        stop: how it decides.
        schedule: whose epochs are the least that the rates stay.
        n: images that train.
        loss: the loss of the held-out images under the weights as they are.

    Attributes:
        most: epochs of the longest training.
        losses: what `loss` gave at each check.
        fall: epochs after which the rates begin to fall, and are 0; None while they stay.
    """

    def __init__(self, stop: StopSettings, schedule: ScheduleSettings, n: int, loss: Callable[[], float]) -> None:
        self.stop, self.loss, self.least, self.power = stop, loss, schedule.epochs, schedule.poly_power
        self.batches = schedule.batches(n)
        self.every = -(-stop.every // self.batches)
        self.most = max(self.least + self._length(self.least), -(-stop.most_steps // self.batches))
        self.losses: list[float] = []
        self.fall: tuple[int, int] | None = None

    @property
    def end(self) -> int:
        """Epochs of the training, as far as it is known."""
        return self.most if self.fall is None else self.fall[1]

    def check(self, epoch: int, shared: Callable[[float], float] = float) -> None:
        """Decide at the end of an epoch, counted from 1.

        Args:
            epoch: the number of epochs so far.
            shared: from the loss that this process computed to that of the first process, which decides for all.
        """
        if self.fall is not None:
            return
        if epoch % self.every == 0:
            self.losses.append(shared(self.loss()))
            LOG.debug("epoch %d: the held-out loss is %.4g", epoch, self.losses[-1])
        last = epoch + self._length(epoch) >= self.most
        if epoch >= self.least and (last or self._checks_without_gain() >= self.stop.patience):
            self.fall = epoch, min(self.most, epoch + self._length(epoch))
            LOG.info("after %d epochs the rates fall to 0, by epoch %d", *self.fall)

    def factor(self, step: int) -> float:
        """What multiplies the rates at a step, counted from 0."""
        if self.fall is None:
            return 1.0
        first, last = (epoch * self.batches for epoch in self.fall)
        return float(min(1.0, max(0.0, 1 - (step - first) / (last - first))) ** self.power)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"losses": list(self.losses), "fall": None if self.fall is None else list(self.fall)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state of `state`."""
        self.losses = [float(loss) for loss in state["losses"]]
        self.fall = None if state["fall"] is None else (int(state["fall"][0]), int(state["fall"][1]))

    def _length(self, epoch: int) -> int:
        """Epochs over which rates fall that stayed until this one."""
        return max(1, math.ceil(self.stop.decay * epoch))

    def _checks_without_gain(self) -> int:
        best, without = math.inf, 0
        for loss in self.losses:
            if loss < best * (1 - self.stop.gain):
                best, without = loss, 0
            else:
                without += 1
        return without


def held_out(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Images that train and images that are held out, both in the order given; a class keeps two images at least.

    Args:
        samples: all.
        share: of them that is held out, where their classes allow it.
        seed: of the choice.
    """
    left = {c: sum(c in s.tags for s in samples) for c in {c for s in samples for c in s.tags}}
    wanted, out = min(_MOST_HELD, round(share * len(samples))), set[int]()
    for index in np.random.default_rng([seed, len(samples)]).permutation(len(samples)).tolist():
        tags = samples[index].tags
        if len(out) < wanted and all(left[c] > _LEFT for c in tags):
            out.add(index)
            left.update({c: left[c] - 1 for c in tags})
    kept = [s for i, s in enumerate(samples) if i not in out]
    return kept, [samples[i] for i in sorted(out)]
