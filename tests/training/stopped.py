"""What a test tells to stop: the command line with one verb, which trains or waits, in one process or several."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from tag2mask.cli.app import app, main
from tag2mask.core.processes import ranks
from tag2mask.core.processes.ranks import barrier, join, rank
from tag2mask.core.types import Sample
from tag2mask.training.fit import fit
from tag2mask.training.images import TagImages
from tests.training.toy import Toy, engine, images, train_settings


def train(out: Path, signalled: int = -1, silent: int = -1) -> None:
    """Train the toy; in the second epoch process ``signalled`` is sent SIGTERM, or ``silent`` stops answering."""
    module = Toy(train_settings(accumulate=2))
    if rank() == signalled:
        module.kill_step, module.at_kill = 5, lambda: os.kill(os.getpid(), signal.SIGTERM)
    if rank() == silent:
        module.kill_step, module.at_kill = 5, lambda: time.sleep(600)
    fit(module, images(), out=out, seed=3, engine=engine())


@app.command("training")
def training(out: Path, signalled: int) -> None:
    """A training that is told to stop."""
    train(out, signalled=signalled)


class Killing(TagImages):
    """Images whose decoder is sent a signal, or tells its number and is slow."""

    number = 0

    @classmethod
    def drawn(cls, number: int) -> Killing:
        """The toy's images."""
        data = images()
        killing = cls(data.dataset, data.samples, data.transform, data.seed)
        killing.number = number
        return killing

    def read(self, sample: Sample) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            if self.number:
                os.kill(os.getpid(), self.number)
            sys.stdout.write(f"{os.getpid()}\n")
            sys.stdout.flush()
            time.sleep(600)
        return super().read(sample)


@app.command("decoding")
def decoding(out: Path, number: int) -> None:
    """A training whose process that decodes is sent a signal; 0 for none."""
    module = Toy(train_settings())
    fit(module, Killing.drawn(number), out=out, seed=3, engine=engine(workers=1))


@app.command("waiting")
def waiting(out: Path) -> None:
    """Process 1 is told to stop while it waits for work of process 0."""
    join()
    if rank() == 0:
        while not (out / "pid").exists():
            time.sleep(0.1)
        os.kill(int((out / "pid").read_text()), signal.SIGTERM)
        time.sleep(600)
    (out / "new").write_text(str(os.getpid()))
    (out / "new").rename(out / "pid")
    barrier()


@app.command("patient")
def patient(out: Path, seconds: int) -> None:
    """Process 0 alone works for longer than the processes of a training wait; then process 1 falls silent in one."""
    (out / f"{rank()}").touch()
    while not (out / f"{1 - rank()}").exists():  # a busy machine may load torch for one long before the other
        time.sleep(0.1)
    ranks.TIMEOUT = timedelta(seconds=seconds)
    join()
    barrier()
    if rank() == 0:
        time.sleep(seconds + 2)
    train(out / "whole")  # waits before its first step
    sys.stderr.write("trained\n")
    train(out / "silent", silent=1)


if __name__ == "__main__":
    main()
