"""Forbids the network: Python imports this at start-up wherever its folder is on PYTHONPATH, so in subprocesses too.

Only names and addresses of this machine can be resolved and reached. The tests' conftest imports it in its own process.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any


class NetworkForbiddenError(RuntimeError):
    """A test tried to reach another machine; not an OSError, which a library might take for a dead link and hide."""


def is_local(host: object) -> bool:
    """Whether a host name or address is this machine's own (the wildcard address and its own name included)."""
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if name in {"localhost", socket.gethostname()}:
        return True
    try:
        address = ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def forbid() -> None:
    """Replace what opens connections and resolves names; a second call changes nothing."""
    if getattr(socket, "_forbidden", False):
        return
    socket._forbidden = True  # type: ignore[attr-defined]
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _checked_connect(getattr(socket.socket, name)))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _checked_lookup(getattr(socket, name)))


def _checked_connect(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and not is_local(address[0]):
            raise NetworkForbiddenError(f"tests must not use the network: connection to {address[0]}:{address[1]}")
        return original(self, address)

    return connect


def _checked_lookup(original: Callable[..., Any]) -> Callable[..., Any]:
    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host):
            raise NetworkForbiddenError(f"tests must not use the network: look-up of {host}")
        return original(host, *args, **kwargs)

    return lookup


forbid()
