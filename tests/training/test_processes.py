"""Two real processes under torchrun give what one gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import toy
from tests.training.ratios import CASES, outputs

ROOT = Path(__file__).resolve().parents[2]


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a test module in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_every_ratio_is_that_of_all_images(tmp_path: Path) -> None:
    result = torchrun("tests.training.ratios", str(tmp_path / "gradients.safetensors"))
    assert result.returncode == 0, result.stderr
    found = load_file(tmp_path / "gradients.safetensors")
    for name, share in CASES.items():
        values = outputs()
        share(values, slice(0, 7)).backward()  # type: ignore[no-untyped-call]  # torch's own
        torch.testing.assert_close(found[name], values.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_two_processes_train_to_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    """Batches, augmentation, dropout, gradients and schedule are those of one process with two parts."""
    result = torchrun("tests.training.toy", str(tmp_path / "two"), "2", "never")
    assert result.returncode == 0, result.stderr
    toy.main(tmp_path / "one", 2, "never")
    one, two = (load_file(tmp_path / name / "toy.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
