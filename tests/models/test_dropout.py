import pytest
import torch
from torch import nn

from fkal.models.dropout import MonteCarloDropout, monte_carlo_dropout
from fkal.models.registry import build

SHAPE = (1, 8, 8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_input(n: int = 4) -> torch.Tensor:
    return torch.randn(n, *SHAPE, generator=seeded(0))


@pytest.mark.parametrize("training", [True, False])
def test_without_the_context_it_is_the_identity(training):
    layer, x = MonteCarloDropout(0.5).train(training), some_input()
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("training", [True, False])
def test_within_the_context_entries_are_dropped_and_the_rest_scaled(training):
    layer = MonteCarloDropout(0.25).train(training)
    with monte_carlo_dropout(layer, seeded(1)):
        y = layer(torch.ones(1000))
    assert set(y.tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    # binomial with n = 1000 and p = 0.25 has standard deviation 13.7
    assert abs(int((y == 0).sum()) - 250) < 5 * 13.7


def test_the_mean_is_preserved():
    layer = MonteCarloDropout(0.5)
    x = torch.rand(8, generator=seeded(2)) + 1
    with monte_carlo_dropout(layer, seeded(3)):
        mean = torch.stack([layer(x) for _ in range(4000)]).mean(dim=0)
    torch.testing.assert_close(mean, x, rtol=5 / 4000**0.5, atol=0.0)  # a draw's relative deviation is 1


@pytest.mark.parametrize("name", ["lenet", "resnet10"])
def test_the_same_generator_seed_gives_the_same_masks_and_draws_go_on(name):
    shape = SHAPE if name == "lenet" else (1, 32, 32)
    model, x = build(name, shape, 3).eval(), torch.randn(2, *shape, generator=seeded(0))
    with torch.no_grad():
        plain = model(x)
        with monte_carlo_dropout(model, seeded(4)):
            first, second = model(x), model(x)
        with monte_carlo_dropout(model, seeded(4)):
            again = model(x)
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
        assert not torch.equal(first, plain)
        assert torch.equal(model(x), plain)


@pytest.mark.parametrize("p", [0.0, 1e-4, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_the_share_that_is_dropped_is_p(p):
    layer, n = MonteCarloDropout(p), 400_000
    with monte_carlo_dropout(layer, seeded(8)):
        dropped = int((layer(torch.ones(n)) == 0).sum())
    # binomial, and p is kept to 1 in 65,536
    assert abs(dropped - p * n) <= 5 * (n * p * (1 - p)) ** 0.5 + n / 65_536


def test_entries_are_dropped_independently_of_each_other():
    """Four entries share a draw: neither neighbours within it nor entries in the same place of it may agree."""
    layer, n = MonteCarloDropout(0.5), 100_000
    with monte_carlo_dropout(layer, seeded(9)):
        kept = (layer(torch.ones(n)) > 0).double()
    signs = 2 * kept - 1
    for apart in (1, 2, 3, 4, 5, 8, 64):
        # a mean of n products of independent signs has standard deviation n^-1/2
        assert abs(float((signs[:-apart] * signs[apart:]).mean())) < 5 * (n - apart) ** -0.5
    for place in range(4):
        share = float(kept[place::4].mean())
        assert abs(share - 0.5) < 5 * 0.5 * (n / 4) ** -0.5


@pytest.mark.parametrize("shape", [(1,), (3,), (5,), (2, 3), (1, 1, 1, 3), (3, 2, 5, 7)])
def test_a_size_that_no_word_divides_works_too(shape):
    layer, x = MonteCarloDropout(0.5), 1 + torch.rand(shape, generator=seeded(10))
    with monte_carlo_dropout(layer, seeded(11)):
        y = layer(x)
    assert y.shape == x.shape
    assert torch.equal(torch.where(y == 0, 2 * x, y), 2 * x)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 5, 6), (2, 4, 1, 1), (1, 4, 5, 6)])
def test_the_layout_in_memory_is_kept_and_the_share_that_is_dropped_too(shape):
    layer, x = MonteCarloDropout(0.25), torch.ones(shape).contiguous(memory_format=torch.channels_last)
    dropped = 0
    with monte_carlo_dropout(layer, seeded(12)):
        for _ in range(400):
            y = layer(x)
            assert y.stride() == x.stride()
            assert set(y.unique().tolist()) <= {0.0, float(torch.tensor(1 / 0.75))}
            dropped += int((y == 0).sum())
    n = 400 * x.numel()
    assert abs(dropped - n / 4) < 5 * (n * 0.25 * 0.75) ** 0.5


def test_a_view_that_is_not_contiguous_is_masked_like_any_other():
    layer, x = MonteCarloDropout(0.5), torch.rand(6, 4, generator=seeded(13)) + 1
    with monte_carlo_dropout(layer, seeded(14)):
        y = layer(x.T)
    with monte_carlo_dropout(layer, seeded(14)):
        assert torch.equal(y, layer(x.T.contiguous()))


def boolean_dropout(x: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    """The masks as booleans: the form in which experiments were first measured."""
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
    kept = words.view(torch.int16)[: x.numel()] >= min(round(p * (1 << 16)), (1 << 16) - 1) - (1 << 15)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return (x * kept.as_strided(x.shape, x.stride())).mul_(1 / (1 - p))
    return (x * kept.view(x.shape)).mul_(1 / (1 - p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.999])
def test_masks_of_numbers_drop_bit_for_bit_what_booleans_drop(dtype, layout, p):
    """Signs of zeros, infinities and NaN included."""
    x = torch.randn(3, 5, 6, 7, generator=seeded(15)).to(dtype)
    x.view(-1)[:24] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).max]).repeat(4)
    layer = MonteCarloDropout(p)
    for one in (x.contiguous(memory_format=layout), x.transpose(0, 3), x[..., 1:], x.flatten()):
        with monte_carlo_dropout(layer, seeded(16)):
            y = layer(one)
        expected = boolean_dropout(one, p, seeded(16))
        bits = torch.int16 if dtype.itemsize == 2 else torch.int32
        assert y.stride() == expected.stride()
        assert torch.equal(y.contiguous().view(bits), expected.contiguous().view(bits))


def test_each_image_has_a_mask_of_its_own():
    model, x = build("lenet", SHAPE, 3).eval(), some_input(1).repeat(4, 1, 1, 1)
    with torch.no_grad(), monte_carlo_dropout(model, seeded(5)):
        assert len(model(x).unique(dim=0)) == 4


def test_an_error_within_the_context_switches_dropout_off_too():
    model, x = build("lenet", SHAPE, 3).eval(), some_input()
    before = model(x)
    with pytest.raises(RuntimeError, match="on the way"), monte_carlo_dropout(model, seeded(6)):
        raise RuntimeError("on the way")
    assert torch.equal(model(x), before)


def test_sampling_leaves_the_state_dict_and_the_global_generator_alone():
    model = build("lenet", SHAPE, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with monte_carlo_dropout(model, seeded(7)):
        model(some_input())
        assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_probability_outside_0_to_1_is_refused(p):
    with pytest.raises(ValueError, match=r"give a value in \[0, 1\)"):
        MonteCarloDropout(p)


def test_a_model_without_the_layer_is_refused():
    with pytest.raises(ValueError, match="no MonteCarloDropout layer"), monte_carlo_dropout(nn.Linear(2, 2), seeded(0)):
        pass


def test_shared_masks_are_one_network_for_all_images_whatever_the_batch():
    layer = MonteCarloDropout(0.5)
    x = torch.ones(6, 4, 3, 3)
    for inputs in (x, x.contiguous(memory_format=torch.channels_last)):
        with monte_carlo_dropout(layer, torch.Generator().manual_seed(1), shared=True):
            whole = layer(inputs)
        assert (whole == whole[:1]).all()
        assert set(whole.unique().tolist()) == {0.0, 2.0}
        with monte_carlo_dropout(layer, torch.Generator().manual_seed(1), shared=True):
            assert torch.equal(layer(inputs[:2]), whole[:2])
    with monte_carlo_dropout(layer, torch.Generator().manual_seed(1)):
        own = layer(x)
    assert not (own == own[:1]).all()
    assert torch.equal(layer(x), x)
