"""The network is forbidden to tests, here and in the processes they start; this machine itself can be reached."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.helpers.refused import refused
from tests.offline.sitecustomize import is_local


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1", "0.0.0.0", "", None, b"localhost"])
def test_own_machine_is_local(host: object) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["example.org", "192.0.2.1", "10.0.0.1", "2001:db8::1", "localhost.example.org", b"pypi.org"]
)
def test_other_machines_are_not_local(host: object) -> None:
    assert not is_local(host)


def test_connecting_to_an_address_fails() -> None:
    with socket.socket() as client:
        with refused(RuntimeError, "the network", "192.0.2.1:80"):
            client.connect(("192.0.2.1", 80))
        with pytest.raises(RuntimeError, match="connection to 192.0.2.1:80"):
            client.connect_ex(("192.0.2.1", 80))


def test_resolving_a_name_fails() -> None:
    for lookup in (socket.gethostbyname, socket.gethostbyname_ex, lambda host: socket.getaddrinfo(host, 80)):
        with pytest.raises(RuntimeError, match=r"look-up of example\.org"):
            lookup("example.org")


def test_a_download_fails_and_is_not_taken_for_a_dead_link() -> None:
    with pytest.raises(RuntimeError, match=r"look-up of example\.org"):
        urllib.request.urlopen("http://example.org/weights.bin")


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        with peer:
            client.sendall(b"maps")
            assert peer.recv(4) == b"maps"


def test_subprocesses_are_forbidden_too() -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NetworkForbiddenError: tests must not use the network" in done.stderr


def test_hubs_are_offline_and_torch_has_one_thread() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "1"
