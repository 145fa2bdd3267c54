import pytest
import torch

from fkal.core.descriptors import Descriptors
from fkal.core.pseudo_labels import PSEUDO_LABELS, PoolBatch, Reference


def evidence(raw, n: int, m: int, seed: int):
    draws = torch.Generator().manual_seed(seed)
    pool, validation = raw(n, seed=seed), raw(m, seed=seed + 1)
    y, y_v = torch.randint(3, (n,), generator=draws), torch.randint(3, (m,), generator=draws)
    batch = PoolBatch(torch.randn(n, 3, generator=draws), Descriptors.of(pool.z), y)
    return pool, validation, batch, Reference(validation.descriptors, y_v)


@pytest.mark.parametrize("seed", range(3))
def test_joint_takes_the_label_of_the_validation_image_with_the_largest_r_z(raw, paper, seed):
    pool, validation, batch, reference = evidence(raw, 8, 13, seed)
    similarity = paper.r(pool.z, validation.z).tolist()
    expected = [int(reference.y[row.index(max(row))]) for row in similarity]
    assert PSEUDO_LABELS["joint"].estimate(batch, reference).tolist() == expected


def test_joint_takes_the_first_of_equally_similar_validation_images(raw):
    _, _, batch, _ = evidence(raw, 4, 3, 0)
    twice = {tap: torch.cat([block, block]) for tap, block in batch.z.z.items()}
    reference = Reference(Descriptors(twice), torch.tensor([0, 1, 2, 0, 2, 2, 2, 2]))
    assert PSEUDO_LABELS["joint"].estimate(batch, reference).tolist() == [0, 1, 2, 0]


def test_predicted_is_the_arg_max_of_the_models_output(raw):
    _, _, batch, reference = evidence(raw, 8, 3, 1)
    expected = [row.index(max(row)) for row in batch.logits.tolist()]
    assert PSEUDO_LABELS["predicted"].estimate(batch, reference).tolist() == expected


def test_true_is_the_oracles_label(raw):
    _, _, batch, reference = evidence(raw, 8, 3, 2)
    assert torch.equal(PSEUDO_LABELS["true"].estimate(batch, reference), batch.y)


@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_only_an_estimator_marked_so_depends_on_the_true_labels(raw, name):
    _, _, batch, reference = evidence(raw, 8, 9, 3)
    other = PoolBatch(batch.logits, batch.z, (batch.y + 1) % 3)
    entry = PSEUDO_LABELS[name]
    same = torch.equal(entry.estimate(batch, reference), entry.estimate(other, reference))
    assert same is not entry.sees_oracle
