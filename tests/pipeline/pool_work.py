"""Functions that a pool's workers run in the tests."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import torch

from tag2mask.core.errors import DataError


def state(number: int) -> tuple[int, int, bool]:
    """The number, torch's threads here, and whether the network is forbidden; the first takes longest."""
    time.sleep(0.3 if number == 0 else 0)
    try:
        socket.getaddrinfo("example.org", 80)
    except RuntimeError as error:
        return number, torch.get_num_threads(), "must not use the network" in str(error)
    return number, torch.get_num_threads(), False


def square(number: int) -> int:
    """The square."""
    return number * number


def die_at_three(number: int) -> int:
    """Killed as by the kernel when memory is short."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_at_two(number: int) -> int:
    """An error that a user can mend."""
    if number == 2:
        raise DataError("maps of 'im2' hold NaN")
    return number


def forever(number: int) -> int:
    """Never ends."""
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)
    return number
