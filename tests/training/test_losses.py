"""Losses against plain numbers, and on two processes against one."""

from __future__ import annotations

import ast
import math

import pytest
import torch

from tag2mask.training.losses import global_ratio, multilabel_soft_margin
from tests.project.source import modules
from tests.training.ratios import CASES, outputs


def slow_soft_margin(logits: list[list[float]], tags: list[list[int]], columns: list[int]) -> float:
    terms = []
    for row, truth in zip(logits, tags, strict=True):
        for c in columns:
            p = 1 / (1 + math.exp(-row[c]))
            terms.append(-math.log(p if truth[c] else 1 - p))
    return sum(terms) / len(terms)


LOGITS = [[0.5, -1.0, 3.0], [2.0, 0.0, -4.0]]
TAGS = [[1, 0, 1], [0, 1, 0]]


def test_soft_margin_is_the_mean_over_images_and_classes() -> None:
    found = multilabel_soft_margin(torch.tensor(LOGITS), torch.tensor(TAGS))
    assert found.item() == pytest.approx(slow_soft_margin(LOGITS, TAGS, [0, 1, 2]), rel=1e-6)


def test_soft_margin_is_torchs_own() -> None:
    logits, tags = torch.randn(5, 4), torch.randint(0, 2, (5, 4)).float()
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, tags)
    torch.testing.assert_close(multilabel_soft_margin(logits, tags), expected)


def test_masked_classes_count_for_nothing() -> None:
    mask = torch.tensor([True, False, True])
    logits = torch.tensor(LOGITS, requires_grad=True)
    found = multilabel_soft_margin(logits, torch.tensor(TAGS), mask)
    assert found.item() == pytest.approx(slow_soft_margin(LOGITS, TAGS, [0, 2]), rel=1e-6)
    found.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]
    assert (logits.grad[:, [0, 2]] != 0).all()


def test_half_precision_logits_give_a_float32_loss_without_overflow() -> None:
    loss = multilabel_soft_margin(torch.tensor([[-300.0, 300.0]], dtype=torch.bfloat16), torch.tensor([[1, 0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(300, rel=0.01)


def test_ratio_of_one_process_is_the_ratio() -> None:
    assert global_ratio(torch.tensor(6.0), torch.tensor(4.0)).item() == 1.5


def test_ratios_of_vectors_and_of_nothing() -> None:
    found = global_ratio(torch.tensor([6.0, 0.0, 1.0]), torch.tensor([4, 0, 0]), epsilon=0.5)
    assert found.tolist() == pytest.approx([6 / 4.5, 0, 2])


def losses_over_processes() -> set[str]:
    """Functions of the package whose result is a `global_ratio`, or made of such a function's."""
    calls = {
        node.name: {c.func.id for c in ast.walk(node) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)}
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef)
    }
    found = {"global_ratio"}
    while more := {name for name, called in calls.items() if called & found} - found:
        found |= more
    return found - {"global_ratio"}


def test_every_loss_that_is_a_ratio_has_a_case() -> None:
    assert CASES.keys() == losses_over_processes()


def test_cases_have_a_gradient_everywhere_it_matters() -> None:
    for name, share in CASES.items():
        values = outputs()
        share(values, slice(0, 7)).backward()  # type: ignore[no-untyped-call]  # torch's own
        assert values.grad is not None, name
        assert (values.grad.abs().sum(1) > 0).all(), name
