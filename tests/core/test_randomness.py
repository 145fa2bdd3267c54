import torch

from fkal.core.randomness import stream


def draws(generator: torch.Generator) -> list[int]:
    return torch.randint(2**62, (4,), generator=generator).tolist()


def test_the_same_name_gives_the_same_draws_whatever_was_drawn_before():
    first = draws(stream(3, "train", 2))
    torch.manual_seed(99)
    draws(stream(3, "select", 2))
    torch.rand(5)
    assert draws(stream(3, "train", 2)) == first


def test_other_seeds_names_and_iterations_give_other_draws():
    names = [("train", b) for b in range(20)] + [("select", b) for b in range(20)] + [("init",), ("pretrain",)]
    seen = {tuple(draws(stream(seed, *name))) for seed in range(10) for name in names}
    assert len(seen) == 10 * len(names)


def test_a_stream_leaves_torchs_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draws(stream(1, "train", 1))
    assert torch.equal(torch.rand(3), expected)


def test_a_stream_is_on_the_cpu():
    assert stream(0, "init").device == torch.device("cpu")
