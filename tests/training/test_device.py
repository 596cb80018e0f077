"""Devices that are not there are refused with what to do instead."""

from __future__ import annotations

import sys

import pytest
import torch

from tag2mask.core.errors import ConfigError
from tag2mask.training.device import check_processes, resolve_device
from tests.helpers.refused import refused
from tests.training.toy import engine


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, **environment: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("no_gpu")
def test_auto_and_cpu_without_gpu() -> None:
    assert resolve_device(engine(device="auto")) == torch.device("cpu")
    assert resolve_device(engine(device="cpu")) == torch.device("cpu")


def test_auto_takes_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert resolve_device(engine(device="auto")) == torch.device("cuda", 0)
    assert resolve_device(engine(device="cuda:1")) == torch.device("cuda", 1)
    assert resolve_device(engine(device="cpu")) == torch.device("cpu")


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2, WORLD_SIZE="4", LOCAL_WORLD_SIZE="2", RANK="3", LOCAL_RANK="1")
    assert resolve_device(engine(device="auto")) == torch.device("cuda", 1)
    with refused(ConfigError, "its own GPU", "use engine.device=cuda"):
        resolve_device(engine(device="cuda:0"))


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2, WORLD_SIZE="3", RANK="0", LOCAL_RANK="0")
    with refused(ConfigError, "3 processes", "2 GPUs", "start at most 2"):
        resolve_device(engine(device="cuda"))


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 1)
    with pytest.raises(ConfigError, match="engine.device = 'cuda:1': there are 1 GPUs, numbered from 0"):
        resolve_device(engine(device="cuda:1"))


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("cuda", "engine.device = 'cuda' … not available … Use engine.device=auto or cpu"),
        ("mps", "engine.device = 'mps' … has none … Use engine.device=auto or cpu"),
    ],
)
def test_no_gpu_at_all(device: str, text: str) -> None:
    with refused(ConfigError, text):
        resolve_device(engine(device=device))


def test_several_devices_need_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tag2mask", "run", "own-data", "data.root=my photos"])
    with pytest.raises(ConfigError) as caught:
        check_processes(engine(devices=4))
    assert "torchrun --nproc-per-node=4 -m tag2mask run own-data 'data.root=my photos'" in str(caught.value)


def test_devices_that_are_not_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(engine(devices=2))
    check_processes(engine())
    with refused(ConfigError, "engine.devices = 3", "2 processes", "leave it out"):
        check_processes(engine(devices=3))
