"""Tokens of a transformer as one row per image."""

import pytest
import torch

from fkal.core.tokens import pooled_tokens

TOKENS = torch.arange(2 * 5 * 3, dtype=torch.float32).view(2, 5, 3)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_the_mean_leaves_out_what_belongs_to_no_patch(prefix):
    torch.testing.assert_close(pooled_tokens(TOKENS, "mean", prefix), TOKENS[:, prefix:].mean(dim=1))


def test_cls_and_mean_are_side_by_side():
    both = pooled_tokens(TOKENS, "cls+mean", 1)
    torch.testing.assert_close(both, torch.cat([TOKENS[:, 0], TOKENS[:, 1:].mean(dim=1)], dim=1))
    torch.testing.assert_close(pooled_tokens(TOKENS, "cls", 1), both[:, :3])
