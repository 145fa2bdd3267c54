import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fkal.models.vaal import Discriminator, Vae


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(n: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.randn(n, *shape, generator=seeded(0))


def convolutions(network: nn.Module) -> list[tuple[int, int]]:
    """(channels in, channels out), in order."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [(layer.in_channels, layer.out_channels) for layer in network.modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize(
    ("shape", "width"),
    [
        ((1, 8, 8), 4),
        ((1, 28, 28), 4),
        ((3, 32, 32), 4),
        ((3, 224, 224), 1),
        ((3, 100, 100), 2),
        ((1, 4, 4), 2),
        ((2, 5, 7), 2),
        ((3, 33, 47), 2),
        ((1, 15, 40), 2),
    ],
)
def test_the_reconstruction_has_the_images_size_whether_or_not_that_can_be_halved(shape, width):
    x_hat, mu, log_var = Vae(shape, 5, width)(some_images(2, shape), seeded(1))
    assert x_hat.shape == (2, *shape)
    assert mu.shape == log_var.shape == (2, 5)


@pytest.mark.parametrize(
    ("side", "grid", "halvings"), [(8, 4, 1), (15, 7, 1), (28, 7, 2), (32, 4, 3), (64, 4, 4), (100, 6, 4), (224, 7, 5)]
)
def test_images_are_halved_down_to_4_to_7_pixels(side, grid, halvings):
    vae = Vae((1, side, side), 3, 1)
    assert vae.encoder.body[:-1](torch.zeros(2, 1, side, side)).shape[2:] == (grid, grid)
    assert len(convolutions(vae.encoder)) == len(convolutions(vae.decoder)) == halvings


def test_channels_double_with_each_halving_up_to_8_times_the_width_and_back():
    vae = Vae((3, 224, 224), 3, 2)
    assert convolutions(vae.encoder) == [(3, 2), (2, 4), (4, 8), (8, 16), (16, 16)]
    assert convolutions(vae.decoder) == [(16, 16), (16, 8), (8, 4), (4, 2), (2, 3)]


def test_on_64x64_at_width_128_the_encoder_is_the_papers():
    with torch.device("meta"):
        vae = Vae((3, 64, 64), 32, 128)
    assert convolutions(vae.encoder) == [(3, 128), (128, 256), (256, 512), (512, 1024)]
    assert vae.encoder.head.in_features == 1024 * 4 * 4


def test_a_latent_is_mu_plus_sigma_times_a_draw_of_the_generator():
    vae = Vae((1, 8, 8), 3, 4)
    x = some_images(6, (1, 8, 8))
    x_hat, mu, log_var = vae(x, seeded(2))
    epsilon = torch.randn(6, 3, generator=seeded(2))
    assert_close(vae.decoder(mu + log_var.exp().sqrt() * epsilon), x_hat)
    assert torch.equal(vae(x, seeded(2))[0], x_hat)
    assert not torch.equal(vae(x, seeded(3))[0], x_hat)


def test_the_layers_are_convolution_batch_normalisation_relu_and_an_output_that_is_not_squashed():
    vae = Vae((1, 16, 16), 3, 4)
    x = some_images(5, (1, 16, 16))
    f = nn.functional
    h = x
    for block in vae.encoder.body[:-1]:
        h = f.conv2d(h, block[0].weight, stride=2, padding=1)
        h = f.relu(
            (h - h.mean(dim=(0, 2, 3), keepdim=True)) / (h.var(dim=(0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        )
    mu_and_log_var = h.flatten(1) @ vae.encoder.head.weight.T + vae.encoder.head.bias
    assert_close(torch.cat(vae.encoder(x), dim=1), mu_and_log_var, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        vae.decoder.end.bias.fill_(100.0)
        assert float(vae(x, seeded(4))[0].mean()) == pytest.approx(100, abs=5)


def test_in_evaluation_an_images_latent_does_not_depend_on_its_batch():
    vae = Vae((1, 8, 8), 3, 4)
    x = some_images(6, (1, 8, 8))
    vae(3 * x + 1, seeded(5))
    vae.eval()
    assert_close(vae.encoder(x)[0][2:3], vae.encoder(x[2:3])[0])


def test_the_discriminator_gives_one_logit_a_latent_through_two_layers_of_512():
    network, z = Discriminator(7), torch.randn(4, 7, generator=seeded(6))
    one, _, two, _, three = network.body
    h = (z @ one.weight.T + one.bias).relu()
    h = (h @ two.weight.T + two.bias).relu()
    assert h.shape == (4, 512)
    assert_close(network(z), h @ three.weight[0] + three.bias)


@pytest.mark.parametrize(("height", "width"), [(3, 8), (8, 3), (1, 1)])
def test_images_too_small_to_be_halved_are_refused(height, width):
    with pytest.raises(ValueError, match=f"images of {height}x{width} are too small for VAAL's encoder; give 4x4"):
        Vae((1, height, width), 3, 4)
