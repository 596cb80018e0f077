"""Processes that are connected hear which of them has ended, and nothing where each was done."""

from __future__ import annotations

import socket
import threading
from queue import Empty, Queue

import pytest

from tag2mask.core.processes.peers import _DONE, _HELLO, Hub, Spoke

TOKEN = b"0123456789abcdef"


class Run:
    """A hub and spokes in one process, and what each hears of lost ones."""

    def __init__(self, size: int = 3) -> None:
        self.heard = [Queue[int]() for _ in range(size)]
        self.hub = Hub("127.0.0.1", TOKEN, self.heard[0].put)
        self.hub.start()
        self.spokes = [Spoke("127.0.0.1", self.hub.port, TOKEN, n, self.heard[n].put) for n in range(1, size)]
        for spoke in self.spokes:
            spoke.start()
        self.wait_until_known()

    def wait_until_known(self) -> None:
        known = threading.Event()
        while len(self.hub._peers) < len(self.spokes):
            known.wait(0.01)

    def cut(self, number: int) -> None:
        """What the system does where that process ends."""
        self.spokes[number - 1]._connection.shutdown(socket.SHUT_RDWR)


def hears(queue: Queue[int]) -> int:
    return queue.get(timeout=10)


def silent(queue: Queue[int], seconds: float = 0.3) -> bool:
    try:
        queue.get(timeout=seconds)
    except Empty:
        return True
    return False


def test_all_hear_which_process_has_ended() -> None:
    run = Run(4)
    run.cut(2)
    assert [hears(run.heard[n]) for n in (0, 1, 3)] == [2, 2, 2]


def test_the_end_of_process_0_is_heard_by_all_others() -> None:
    run = Run(3)
    connections = list(run.hub._peers)
    run.hub._peers.clear()  # it is not there any more to tell anybody
    for connection in connections:
        connection.shutdown(socket.SHUT_RDWR)
    assert [hears(run.heard[n]) for n in (1, 2)] == [0, 0]


def test_a_process_that_is_done_is_not_missed() -> None:
    run = Run(3)
    run.spokes[0].done()
    while len(run.hub._peers) > 1:
        threading.Event().wait(0.01)
    run.cut(1)
    assert silent(run.heard[0])
    assert silent(run.heard[2])
    run.cut(2)
    assert hears(run.heard[0]) == 2, "the others are still watched"


def test_nobody_misses_process_0_once_it_is_done() -> None:
    run = Run(3)
    run.hub.done()
    for spoke in run.spokes:
        spoke.join(timeout=10)
        assert not spoke.is_alive()
    assert all(silent(queue, 0.05) for queue in run.heard)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", _HELLO.pack(b"x" * 16, 1)])
def test_strangers_are_no_part_of_the_run(said: bytes) -> None:
    run = Run(2)
    with socket.create_connection(("127.0.0.1", run.hub.port), timeout=10) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(1) == b"", "it is hung up on"
    assert silent(run.heard[0])
    assert len(run.hub._peers) == 1


def test_no_process_has_the_number_that_says_done() -> None:
    assert _DONE > 2**31
