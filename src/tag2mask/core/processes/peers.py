"""Notices that another process of the run has ended, in the middle of work in which it waits for nobody.

Every process has a connection to process 0. The system closes it however its process ends, and one to a machine that is
gone fails within half a minute. Process 0 tells the others which process it was. Torch would notice nothing before the
next exchange: stages that work image by image have theirs at the end, which may be hours away.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

_HELLO = struct.Struct("!16sI")
"""What a process says first: the token of the run and its number."""
_WORD = struct.Struct("!I")
"""What process 0 says: the number of a process that has ended, or `_DONE`."""
_DONE = 0xFFFFFFFF
_BYE = b"."
_SECONDS = 30.0
"""How long a connection may take to be made."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""Seconds of silence, seconds between probes and how many: a machine that is gone is noticed after half a minute."""

_NAME = "watch for processes that end"
OnLost = Callable[[int], None]
"""Called in a thread with the number of a process that has ended before it said that it was done."""


class Hub(threading.Thread):
    """The end of process 0; watches from `start` on.

    Args:
        host: name or address that the others know this machine by.
        token: 16 bytes that they have to name.
        on_lost: see `OnLost`.
    """

    def __init__(self, host: str, token: bytes, on_lost: OnLost) -> None:
        super().__init__(name=_NAME, daemon=True)
        self.on_lost, self._token = on_lost, token
        self._listener = _listener(host)
        self._peers: dict[socket.socket, int] = {}
        _close_in_children(self._listener)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def run(self) -> None:
        """Take connections, and see which of them end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    if connection is self._listener:
                        self._accept(selector)
                    elif _read(connection, 1) == _BYE:
                        self._peers.pop(connection, None)
                    else:
                        selector.unregister(connection)
                        self._ended(self._peers.pop(connection, None))

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.settimeout(_SECONDS)
            said = _read(connection, _HELLO.size)
            if said is None or _HELLO.unpack(said)[0] != self._token:
                connection.close()
                return
            connection.settimeout(None)
            _keep_alive(connection)
            _close_in_children(connection)
            self._peers[connection] = _HELLO.unpack(said)[1]
            selector.register(connection, selectors.EVENT_READ)

    def _ended(self, number: int | None) -> None:
        if number is not None:  # it has not said that it was done
            self._tell(number)
            self.on_lost(number)

    def _tell(self, number: int) -> None:
        for connection in list(self._peers):
            with suppress(OSError):
                connection.sendall(_WORD.pack(number))

    def done(self) -> None:
        """Say that process 0 ends because it is done."""
        self._tell(_DONE)


class Spoke(threading.Thread):
    """The end of any other process; watches from `start` on.

    Args:
        host: name or address of the machine of process 0.
        port: where it listens.
        token: 16 bytes of its.
        number: of this process.
        on_lost: see `OnLost`.
    """

    def __init__(self, host: str, port: int, token: bytes, number: int, on_lost: OnLost) -> None:
        super().__init__(name=_NAME, daemon=True)
        self.on_lost = on_lost
        self._connection = socket.create_connection((host, port), timeout=_SECONDS)
        self._connection.settimeout(None)
        _keep_alive(self._connection)
        _close_in_children(self._connection)
        self._connection.sendall(_HELLO.pack(token, number))

    def run(self) -> None:
        """Wait for what process 0 says, or for its end."""
        said = _read(self._connection, _WORD.size)
        number = 0 if said is None else _WORD.unpack(said)[0]
        if number != _DONE:
            self.on_lost(number)

    def done(self) -> None:
        """Say that this process ends because it is done."""
        with suppress(OSError):
            self._connection.sendall(_BYE)


def _listener(host: str) -> socket.socket:
    """A socket at this machine's address of that name; at all of its addresses where the name is another's."""
    with suppress(OSError):
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    return socket.create_server(("", 0))


def _read(connection: socket.socket, size: int) -> bytes | None:
    """So many bytes; None where the other side has ended."""
    found = b""
    while len(found) < size:
        try:
            more = connection.recv(size - len(found))
        except OSError:
            return None
        if not more:
            return None
        found += more
    return found


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _close_in_children(connection: socket.socket) -> None:
    """Close a socket in forked children (which decode images): it has to end with this process."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=connection.close)
