import torch

from fkal.core.evidence import Features, FisherScores, Nothing


def test_every_evidence_knows_how_many_images_are_open(raw):
    pool, targets = raw(6, seed=0).descriptors, raw(2, seed=1).descriptors
    assert Nothing(6).n == Features(pool, targets).n == 6
    assert FisherScores(pool, targets, torch.zeros(6, dtype=torch.long)).n == 6
