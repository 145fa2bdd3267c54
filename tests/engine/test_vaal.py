import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.testing import assert_close

from fkal.acquisition.vaal import select
from fkal.core.randomness import stream
from fkal.data.images import TensorImages
from fkal.engine.progress import Progress
from fkal.engine.settings import VaalConfig
from fkal.engine.vaal import (
    deception_loss,
    discriminate,
    discriminator_loss,
    endless_batches,
    paired_batches,
    seeded_networks,
    vae_loss,
)
from fkal.models.vaal import Encoder

TINY = {"iterations": 3, "batch_size": 4, "latent": 3, "width": 4}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(pictures, meter, *, labeled=range(5), open_pool=range(5, 14), batch_size=4, seed=0, **config):
    return discriminate(
        pictures,
        labeled=torch.tensor(list(labeled), dtype=torch.long),
        open_pool=torch.tensor(list(open_pool), dtype=torch.long),
        config=VaalConfig(**{**TINY, **config}),
        batch_size=batch_size,
        generator=seeded(seed),
        meter=meter,
    )


def dark_and_bright(n: int) -> TensorImages:
    """n dark images, then n bright ones, of 8x8 pixels under noise."""
    pixels = torch.randint(0, 100, (2 * n, 1, 8, 8), generator=seeded(0))
    pixels[n:] += 100
    return TensorImages(pixels.to(torch.uint8), torch.arange(2 * n) // n, "db", mean=(0.4,), std=(0.25,))


def some_tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    draws = seeded(1)
    return [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_vaes_loss_is_squared_error_plus_beta_times_the_divergence_from_a_standard_normal(beta):
    x, x_hat, mu, log_var = some_tensors((6, 2, 4, 3), (6, 2, 4, 3), (6, 5), (6, 5))
    means = []
    for half in (range(3), range(3, 6)):
        total = 0.0
        for i in half:
            for c in range(2):
                for h in range(4):
                    for w in range(3):
                        total += float(x[i, c, h, w] - x_hat[i, c, h, w]) ** 2
            for k in range(5):
                mean, variance = float(mu[i, k]), math.exp(log_var[i, k])
                total += beta * 0.5 * (variance + mean**2 - 1 - math.log(variance))
        means.append(total / 3)
    assert float(vae_loss(x, x_hat, mu, log_var, VaalConfig(beta=beta))) == pytest.approx(sum(means))


def test_the_divergence_is_that_of_torchs_normal_distributions():
    x, mu, log_var = some_tensors((4, 1, 4, 4), (4, 3), (4, 3))
    normal = torch.distributions.Normal
    standard = normal(torch.zeros(4, 3, dtype=torch.float64), 1.0)
    divergence = torch.distributions.kl_divergence(normal(mu, (0.5 * log_var).exp()), standard).sum(dim=1)
    assert_close(vae_loss(x, x, mu, log_var, VaalConfig()), 2 * divergence.mean())


def test_the_vae_wants_all_taken_for_labeled_and_the_discriminator_to_tell_them_apart():
    (logits,) = some_tensors((8,))
    p = [1 / (1 + math.exp(-logit)) for logit in logits.tolist()]
    labeled, opened = p[:4], p[4:]
    deceive = -sum(math.log(q) for q in labeled) / 4 - sum(math.log(q) for q in opened) / 4
    tell = -sum(math.log(q) for q in labeled) / 4 - sum(math.log(1 - q) for q in opened) / 4
    assert float(deception_loss(logits)) == pytest.approx(deceive)
    assert float(discriminator_loss(logits)) == pytest.approx(tell)


def test_losses_stay_finite_where_the_discriminator_is_sure():
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4])
    assert float(deception_loss(logits)) == float(discriminator_loss(logits)) == 1e4


def test_the_weights_under_which_our_loss_is_that_of_the_authors_program():
    """Mean squared error over values, the divergence summed over the batch; a factor moves no step of Adam."""
    x, x_hat, mu, log_var, logits = some_tensors((6, 2, 4, 3), (6, 2, 4, 3), (6, 5), (6, 5), (6,))
    d = 2.0 * 4 * 3
    ours = vae_loss(x, x_hat, mu, log_var, VaalConfig(beta=d * 3)) + d * deception_loss(logits)
    theirs = torch.zeros((), dtype=torch.float64)
    for half in (slice(3), slice(3, 6)):
        divergence = -0.5 * torch.sum(1 + log_var[half] - mu[half] ** 2 - log_var[half].exp())
        answer = F.binary_cross_entropy_with_logits(logits[half], torch.ones(3, dtype=torch.float64))
        theirs += F.mse_loss(x_hat[half], x[half]) + divergence + answer
    assert_close(ours, d * theirs)


def test_training_and_the_last_pass_are_the_algorithm_written_out(outcome, images, meter):
    """Steps of Adam in turn at the scheduled rate, each on the next batch; then the encoder's mu in evaluation mode."""
    pictures = images(14, seed=2)
    config = VaalConfig(**TINY | {"iterations": 4}, lr=0.01, decay=0.1, decay_every=0.5, vae_steps=2, adversarial=3.0)
    labeled, open_pool = torch.arange(5), torch.arange(5, 14)
    vae, discriminator = seeded_networks(pictures.shape, config, 7)
    noise = seeded(stream(7, "noise").initial_seed())
    batches = paired_batches(labeled, open_pool, config, stream(7, "batches"))
    adams = [torch.optim.Adam(network.parameters()) for network in (vae, discriminator)]
    wanted = torch.ones(4), torch.zeros(4)
    answer = F.binary_cross_entropy_with_logits
    for rate in (0.01, 0.01, 0.001, 0.001):
        for adam in adams:
            adam.param_groups[0]["lr"] = rate
        for _ in range(2):
            (x,) = pictures.batches([next(batches)], device="cpu")
            x_hat, mu, log_var = vae(x, noise)
            loss = F.mse_loss(x_hat, x, reduction="sum") / 4
            loss += -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum() / 4
            logits = discriminator(mu)
            loss += 3 * (answer(logits[:4], wanted[0]) + answer(logits[4:], wanted[0]))
            adams[0].zero_grad()
            loss.backward()
            adams[0].step()
        for _ in range(2):
            (x,) = pictures.batches([next(batches)], device="cpu")
            logits = discriminator(vae(x, seeded(0))[1].detach())
            adams[1].zero_grad()
            (answer(logits[:4], wanted[0]) + answer(logits[4:], wanted[1])).backward()
            adams[1].step()
    assert next(batches, None) is None
    (x,) = pictures.batches([open_pool], device="cpu")
    expected = discriminator(vae.eval().encoder(x)[0]).double().sigmoid()
    settings = {key: getattr(config, key) for key in ("iterations", "lr", "decay", "decay_every", "adversarial")}
    found = outcome(run(pictures, meter, seed=7, batch_size=2, **settings))
    assert_close(found.labeled_probability, expected, rtol=1e-3, atol=1e-6)


def test_the_kind_of_image_that_has_no_label_yet_is_given_the_lower_probability(outcome, meter):
    """All 20 labeled images are dark, of the open ones 20 dark and 20 bright.

    So a dark image is a labeled one with probability 1 / (1 + 1/2), a bright one never.
    """
    pictures = dark_and_bright(40)
    open_pool = 20 + torch.randperm(40, generator=seeded(3))
    bright = pictures.labels[open_pool] == 1
    sets = {"labeled": range(20), "open_pool": open_pool.tolist()}
    found = outcome(run(pictures, meter, **sets, iterations=80, batch_size=10, lr=5e-3))
    assert float(found.labeled_probability[bright].max()) < 0.01
    assert float(found.labeled_probability[~bright].mean()) == pytest.approx(2 / 3, abs=0.2)
    assert bright[select(found, 20, seeded(4)).positions].all()


def test_the_generator_alone_decides_the_probabilities_and_the_global_one_stays_as_it_was(outcome, images, meter):
    pictures, found = images(14, seed=4), []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        found.append(outcome(run(pictures, meter)).labeled_probability)
        assert torch.equal(torch.get_rng_state(), state)
    other = outcome(run(pictures, meter, seed=1)).labeled_probability
    assert torch.equal(*found)
    assert not torch.equal(found[0], other)


@pytest.mark.parametrize("steps", [(2, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("labeled", [2, 5])
def test_passes_of_the_vae_are_counted_as_they_happen(outcome, images, meter, steps, labeled):
    """Table 1: N^b for the pool, and what the training of VAE and discriminator costs."""
    passed = {"forward": 0, "backward": 0}

    def count(layer, inputs, outputs):
        if isinstance(layer, Encoder):
            n = len(inputs[0])
            passed["forward"] += n
            if outputs[0].requires_grad:
                outputs[0].register_hook(lambda gradient: passed.update(backward=passed["backward"] + n))

    with register_module_forward_hook(count), meter.phase("gather"):
        settings = {"vae_steps": steps[0], "discriminator_steps": steps[1], "labeled": range(labeled)}
        outcome(run(images(14, seed=5), meter, **settings))
    batch, iterations, pool = 2 * 4, 3, 9
    assert passed["forward"] == meter.forward_images["gather"] == batch * iterations * sum(steps) + pool
    assert passed["backward"] == meter.backward_images["gather"] == batch * iterations * steps[0]


def test_the_batches_of_the_last_pass_change_no_probability(outcome, images, meter):
    pictures = images(14, seed=6)
    found = [outcome(run(pictures, meter, batch_size=size)).labeled_probability for size in (1, 4, 100)]
    assert found[0].shape == (9,)
    for other in found[1:]:
        assert_close(other, found[0], rtol=1e-4, atol=1e-7)


def test_it_tells_how_far_training_and_the_last_pass_are(images, meter):
    told = list(run(images(14, seed=7), meter, iterations=230, width=1, vae_steps=1, discriminator_steps=1))
    training = [progress for progress in told if progress.phase == "VAAL"]
    assert training[:2] == [Progress("VAAL", 2, 230, "iterations"), Progress("VAAL", 4, 230, "iterations")]
    assert training[-1].done == 230 and len(training) == 115
    assert told[len(training) :] == [Progress("descriptors of pool", k, 3, "batches") for k in (1, 2, 3)]


@pytest.mark.parametrize(("n", "size"), [(1, 4), (3, 4), (4, 4), (7, 3), (50, 4)])
def test_batches_are_all_of_one_size_and_every_order_shows_each_image_once(n, size):
    indices = torch.arange(n) + 100
    batches = endless_batches(indices, size, seeded(8))
    taken = [next(batches) for _ in range(3 * n)]
    assert {len(batch) for batch in taken} == {size}
    orders = torch.cat(taken).split(n)
    assert all(sorted(order.tolist()) == indices.tolist() for order in orders)
    assert n < 7 or len({tuple(order.tolist()) for order in orders}) > 1


def test_a_batch_is_half_labeled_half_open_and_there_is_one_a_step():
    config = VaalConfig(**TINY, vae_steps=2, discriminator_steps=3)
    batches = list(paired_batches(torch.tensor([7, 3]), torch.arange(10, 30), config, seeded(9)))
    assert len(batches) == 3 * (2 + 3)
    for batch in batches:
        assert sorted(batch[:4].tolist()) == [3, 3, 7, 7]
        assert len(set(batch[4:].tolist()) & set(range(10, 30))) == 4


def test_the_rate_falls_by_a_tenth_after_each_twenty_fifth_of_the_iterations():
    config = VaalConfig()
    assert (config.iterations, config.batch_size, config.lr, config.latent) == (10_000, 25, 5e-4, 32)
    factors = [config.factor(iteration) for iteration in (0, 399, 400, 799, 800, 9999)]
    assert factors == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.9**24])
    short = VaalConfig(iterations=3)
    assert [short.factor(iteration) for iteration in range(3)] == pytest.approx([1, 0.9, 0.81])


@pytest.mark.parametrize(
    ("sets", "message"),
    [({"labeled": []}, "0 labeled images; VAAL tells"), ({"open_pool": []}, "0 open images; VAAL tells")],
)
def test_without_both_kinds_of_images_there_is_nothing_to_tell_apart(images, meter, sets, message):
    with pytest.raises(ValueError, match=message):
        next(run(images(14, seed=10), meter, **sets))


@pytest.mark.parametrize("iterations", [1, 5])
def test_a_loss_that_is_not_finite_is_refused_and_names_the_learning_rate(outcome, images, meter, iterations):
    with pytest.raises(FloatingPointError, match=r"not finite; lower vaal.lr = 1e\+30"):
        outcome(run(images(14, seed=11), meter, iterations=iterations, lr=1e30))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"iterations": 0}, "iterations = 0; give at least 1"),
        ({"latent": 0}, "latent = 0; give at least 1"),
        ({"width": 0}, "width = 0; give at least 1"),
        ({"vae_steps": 0}, "vae_steps = 0; give at least 1"),
        ({"discriminator_steps": 0}, "discriminator_steps = 0; give at least 1"),
        ({"batch_size": 1}, "batch_size = 1; give at least 2, for batch normalisation"),
        ({"lr": 0.0}, "lr = 0.0; give a learning rate above 0"),
        ({"lr": float("nan")}, "lr = nan; give a learning rate above 0"),
        ({"decay": 0.0}, r"decay = 0.0; give a value in \(0, 1\]"),
        ({"decay": 1.1}, r"decay = 1.1; give a value in \(0, 1\]"),
        ({"decay_every": 0.0}, r"decay_every = 0.0; give a value in \(0, 1\]"),
        ({"beta": -1.0}, "beta = -1.0; give 0 or more"),
        ({"adversarial": float("inf")}, "adversarial = inf; give 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_way_out(setting, message):
    with pytest.raises(ValueError, match=message):
        VaalConfig(**setting)
