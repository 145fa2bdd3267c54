import pytest
import torch

from fkal.acquisition.nothing import select
from fkal.core.evidence import Nothing


def test_validation_only_picks_nothing():
    assert not len(select(Nothing(20), 0, torch.Generator()).positions)


def test_asked_for_an_image_it_refuses():
    with pytest.raises(ValueError, match="3 picks, and validation_only picks none; ask for 0"):
        select(Nothing(20), 3, torch.Generator())
