"""Two real processes under torchrun give what one gives."""

from __future__ import annotations

import re
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


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["training", "waiting"])
def test_a_process_that_is_reported_to_stop_leaves_and_ends_all(verb: str, tmp_path: Path) -> None:
    """It takes part in no further exchange: the others may be in the middle of their own work, for hours."""
    result = torchrun("tests.training.stopped", verb, str(tmp_path), *(["1"] if verb == "training" else []))
    assert result.returncode != 0
    assert "stopped; the same command resumes\n" in result.stderr
    first = result.stderr.rpartition("Root Cause")[2]
    assert re.search(r"rank +: 1 .*\n *exitcode +: 143 ", first), result.stderr


@pytest.mark.slow
def test_work_of_one_process_may_take_longer_than_an_answer_in_a_training(tmp_path: Path) -> None:
    result = torchrun("tests.training.stopped", "patient", str(tmp_path), "5")
    before, _, after = result.stderr.partition("trained\n")
    assert "error" not in before, result.stderr
    assert "error: process 0 of 2: another process has ended or has not answered for 5 s" in after, result.stderr
    assert re.search(r"rank +: 0 .*\n *exitcode +: 2 ", after.rpartition("Root Cause")[2]), result.stderr
    assert "tag2mask/" not in after, "no traceback of ours"
