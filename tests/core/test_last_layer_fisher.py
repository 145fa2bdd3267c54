"""Rank-one updates against matrices that are built and inverted each time."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from fkal.core import last_layer_fisher
from fkal.core.evidence import Outputs
from fkal.core.last_layer_fisher import RIDGE, BaitState, blocks


def outputs_of(n: int, seed: int) -> Outputs:
    draws = torch.Generator().manual_seed(seed)
    logits, features = (torch.randn(n, width, generator=draws, dtype=torch.float64) for width in (3, 4))
    return Outputs(2 * logits, features)


def slow_blocks(outputs: Outputs) -> Tensor:
    total = torch.zeros(3, 4, 4, dtype=torch.float64)
    for logits, b in zip(outputs.logits, outputs.features, strict=True):
        p = logits.softmax(dim=0)
        for c in range(3):
            total[c] += p[c] * (1 - p[c]) * torch.outer(b, b)
    return total


def trace(f: Tensor, m: Tensor) -> float:
    return sum(float((torch.linalg.inv(m[c]) @ f[c]).trace()) for c in range(3))


@pytest.mark.parametrize("at_once", [2, 4096])
def test_blocks_are_the_diagonal_of_the_last_layers_information(at_once, monkeypatch):
    """Of (diag(p) - p p^T) x b b^T, summed."""
    monkeypatch.setattr(last_layer_fisher, "ROWS_AT_ONCE", at_once)
    outputs, whole = outputs_of(5, 1), torch.zeros(12, 12, dtype=torch.float64)
    for logits, b in zip(outputs.logits, outputs.features, strict=True):
        p = logits.softmax(dim=0)
        whole += torch.kron(p.diag() - torch.outer(p, p), torch.outer(b, b))
    diagonal = torch.stack([whole[4 * c : 4 * c + 4, 4 * c : 4 * c + 4] for c in range(3)])
    assert_close(blocks(outputs), diagonal)
    assert_close(slow_blocks(outputs), diagonal)


@pytest.mark.parametrize("seed", range(3))
def test_gains_and_losses_are_changes_of_the_trace(seed):
    labeled, candidates = outputs_of(4, seed), outputs_of(9, seed + 10)
    f = slow_blocks(candidates) / 9
    m = RIDGE * torch.eye(4, dtype=torch.float64) + slow_blocks(labeled) / 7
    design = BaitState.of(candidates, labeled, candidates, labeled_share=1 / 7, pick_share=3 / 7)
    own = 3 / 7 * torch.stack([slow_blocks(candidates[i : i + 1]) for i in range(9)])
    taken: list[int] = []
    for _ in range(5):
        assert_close(design.gains, torch.tensor([trace(f, m) - trace(f, m + own[i]) for i in range(9)]).double())
        row, gain = design.best()
        best = max(set(range(9)) - set(taken), key=lambda i: trace(f, m) - trace(f, m + own[i]))
        assert row == best
        assert gain == pytest.approx(trace(f, m) - trace(f, m + own[row]))
        design.take(row)
        taken.append(row)
        m = m + own[row]
    for _ in range(3):
        row = design.least(taken)
        assert row == min(taken, key=lambda i: trace(f, m - own[i]) - trace(f, m))
        design.give_back(row)
        taken.remove(row)
        m = m - own[row]
        inverse = torch.linalg.inv(m)
        assert_close(design.u, _forms(inverse, own))
        assert_close(design.v, _forms(inverse @ f @ inverse, own))


def _forms(matrices: Tensor, own: Tensor) -> Tensor:
    """s_c b^T A_c b, which is the trace of A_c times the image's block (n d)."""
    return torch.stack([torch.stack([(matrices[c] @ block[c]).trace() for c in range(3)]) for block in own])
