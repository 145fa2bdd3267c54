import torch

from fkal.core.evidence import Coverage, Discrimination, Features, FisherScores, Nothing
from fkal.core.uncertainty import uncertainty


def test_every_evidence_knows_how_many_images_are_open(raw):
    pool, targets = raw(6, seed=0).descriptors, raw(2, seed=1).descriptors
    assert Nothing(6).n == Features(pool, targets).n == 6
    assert FisherScores(pool, targets, torch.zeros(6, dtype=torch.long)).n == 6
    assert uncertainty(torch.full((4, 6, 2), 0.5)).n == 6
    assert Coverage(torch.zeros(6, 3), torch.zeros(2, 3)).n == 6
    assert Discrimination(torch.full((6,), 0.5)).n == 6
