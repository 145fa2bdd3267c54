from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from fkal.engine.describing import Batch, Describer
from fkal.models.registry import build

LENET = ("conv1", "conv2", "fc1")


def one_image(images, index: int) -> Tensor:
    return next(images.batches([torch.tensor([index])], device="cpu")).double()


def phi(tensor: Tensor) -> Tensor:
    """Global average pooling of one image's tensor."""
    positions = tensor[0].flatten(1) if tensor.dim() == 4 else tensor[0][:, None]
    return torch.stack([sum(channel) / len(channel) for channel in positions])


def pearson_factor(row: Tensor) -> Tensor:
    """Zero mean and unit length."""
    centred = row - sum(row) / len(row)
    return centred / sum(v**2 for v in centred) ** 0.5


def by_finite_differences(model: nn.Module, x: Tensor, y: int, tap: str, step: float = 1e-5) -> Tensor:
    """How the loss of one image changes with each channel of a tapped tensor, averaged over positions."""
    size = {}

    def loss(channel: int, change: float) -> float:
        def shifted(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
            size["channels"], size["positions"] = output.shape[1], output[0, 0].numel()
            output = output.clone()
            output[0, channel] += change
            return output

        handle = model.get_submodule(tap).register_forward_hook(shifted)
        with torch.no_grad():
            value = float(F.cross_entropy(model(x), torch.tensor([y])))
        handle.remove()
        return value

    loss(0, 0.0)
    slopes = [(loss(c, step) - loss(c, -step)) / (2 * step) for c in range(size["channels"])]
    return torch.tensor(slopes, dtype=torch.float64) / size["positions"]


def labeled(labels: Tensor):
    """A labeler that knows the labels by dataset index."""
    return lambda batch: labels[batch.indices]


def described(outcome, model, images, indices, labels, taps, meter, *, batch_size=3, with_grad=True):
    """What the describer leaves, under the labels given by dataset index."""
    describer = Describer(model, images, taps, batch_size, meter)
    return outcome(describer.describe(indices, labeled(labels), labels="true", with_grad=with_grad, what="pool"))


@pytest.mark.parametrize("seed", range(2))
def test_g_of_lenet_is_the_gradient_of_each_images_own_loss(outcome, images, model, meter, seed):
    pictures, network = images(8, seed=seed), model("lenet", seed=seed)
    indices, labels = torch.tensor([6, 1, 3, 0]), torch.tensor([2, 1, 0, 1, 2, 0, 0, 2])
    result = described(outcome, network, pictures, indices, labels, LENET, meter)
    exact = deepcopy(network).double().eval()
    for row, index in enumerate(indices.tolist()):
        x = one_image(pictures, index)
        for tap in LENET:
            slopes = by_finite_differences(exact, x, int(labels[index]), tap)
            assert_close(result.descriptors.g[tap][row].double(), pearson_factor(slopes), rtol=1e-3, atol=1e-4)


def test_z_of_lenet_is_the_average_of_each_feature_map(outcome, images, model, meter):
    pictures, network = images(8, seed=3), model("lenet", seed=3)
    indices = torch.tensor([6, 1, 3, 0])
    result = described(outcome, network, pictures, indices, pictures.labels, LENET, meter)
    exact = deepcopy(network).double().eval()
    for row, index in enumerate(indices.tolist()):
        with torch.no_grad():
            conv1 = exact.conv1(one_image(pictures, index))
            conv2 = exact.conv2(F.max_pool2d(conv1, 2))
            fc1 = exact.fc1(F.max_pool2d(conv2, 2).flatten(1))
        for tap, features in zip(LENET, (conv1, conv2, fc1), strict=True):
            expected = pearson_factor(phi(features))
            assert_close(result.descriptors.z[tap][row].double(), expected, rtol=1e-3, atol=1e-5)
        assert int(result.y_hat[row]) == int(exact.fc2(fc1).argmax())


def test_z_and_g_of_a_resnet_are_those_of_one_image_at_a_time_in_eval_mode(outcome, images, meter):
    torch.manual_seed(4)
    network = build("resnet10", (1, 8, 8), 3)
    for layer in network.modules():  # statistics as after some training
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    pictures, indices = images(6, seed=4), torch.tensor([5, 0, 2])
    labels = torch.tensor([1, 0, 2, 0, 1, 0])
    result = described(outcome, network.train(), pictures, indices, labels, ("layer3", "layer4"), meter)
    exact = deepcopy(network).double().eval()
    for row, index in enumerate(indices.tolist()):
        x = exact.maxpool(exact.relu(exact.bn1(exact.conv1(one_image(pictures, index)))))
        layer3 = exact.layer3(exact.layer2(exact.layer1(x)))
        layer4 = exact.layer4(layer3)
        loss = F.cross_entropy(exact.fc(layer4.mean(dim=(2, 3))), labels[index : index + 1])
        gradients = torch.autograd.grad(loss, [layer3, layer4])
        for tap, z, g in zip(("layer3", "layer4"), (layer3, layer4), gradients, strict=True):
            assert_close(result.descriptors.z[tap][row].double(), pearson_factor(phi(z.detach())), rtol=1e-3, atol=1e-4)
            assert_close(result.descriptors.g[tap][row].double(), pearson_factor(phi(g)), rtol=1e-3, atol=1e-4)


def test_an_image_of_which_the_model_is_all_but_certain_has_the_right_gradient_too(outcome, images, model, meter):
    """A loss of 1e-10 rounds the arg max's probability to 1 in float32; the direction of g must survive."""
    pictures, network = images(3, seed=5), model("lenet", seed=5)
    network.fc2.bias.data = torch.tensor([25.0, 0.0, 1.0])
    certain = torch.zeros(3, dtype=torch.long)
    result = described(outcome, network, pictures, torch.arange(3), certain, ("fc1",), meter)
    assert result.y_hat.tolist() == [0, 0, 0]
    exact = deepcopy(network).double().eval()
    for row in range(3):
        conv2 = exact.conv2(F.max_pool2d(exact.conv1(one_image(pictures, row)), 2))
        fc1 = exact.fc1(F.max_pool2d(conv2, 2).flatten(1))
        loss = F.cross_entropy(exact.fc2(fc1), certain[:1])
        assert 0 < float(loss.detach()) < 1e-9
        (g,) = torch.autograd.grad(loss, [fc1])
        assert_close(result.descriptors.g["fc1"][row].double(), pearson_factor(g[0]), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_the_batch_size_changes_no_descriptor(outcome, images, model, meter, kind, batch_size):
    pictures, network = images(7, seed=6), model(kind, seed=6)
    taps = {"lenet": LENET, "with norm": ("relu", "norm")}[kind]
    arguments = (outcome, network, pictures, torch.arange(7), pictures.labels, taps, meter)
    expected, result = described(*arguments, batch_size=3), described(*arguments, batch_size=batch_size)
    for tap in taps:
        assert_close(result.descriptors.z[tap], expected.descriptors.z[tap], rtol=1e-3, atol=1e-5)
        assert_close(result.descriptors.g[tap], expected.descriptors.g[tap], rtol=1e-3, atol=1e-5)
    assert torch.equal(result.y_hat, expected.y_hat)


def test_the_labeler_sees_images_logits_standardised_features_and_dataset_indices(outcome, images, model, meter):
    pictures, network, seen = images(6, seed=7), model("lenet", seed=7), []

    def labeler(batch: Batch) -> Tensor:
        seen.append(batch)
        return batch.logits.argmin(dim=1)

    indices = torch.tensor([4, 1, 5])
    describer = Describer(network, pictures, ("conv2",), 2, meter)
    result = outcome(describer.describe(indices, labeler, labels="true", with_grad=True, what="pool"))
    assert torch.equal(torch.cat([batch.indices for batch in seen]), indices)
    assert torch.equal(torch.cat([batch.x for batch in seen]), next(pictures.batches([indices], device="cpu")))
    logits = torch.cat([batch.logits for batch in seen])
    assert torch.equal(result.y, logits.argmin(dim=1))
    assert torch.equal(result.y_hat, logits.argmax(dim=1))
    assert torch.equal(torch.cat([batch.z.z["conv2"] for batch in seen]), result.descriptors.z["conv2"])
    assert not logits.requires_grad


def test_backward_goes_no_deeper_than_the_earliest_tap(outcome, images, model, meter):
    pictures, network, grads = images(4, seed=8), model("lenet", seed=8), {}
    for name in ("conv1", "conv2", "fc1", "fc2"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: grads.update({name: output.requires_grad})
        )
    described(outcome, network, pictures, torch.arange(4), pictures.labels, ("fc1", "conv2"), meter)
    assert grads == {"conv1": False, "conv2": False, "fc1": True, "fc2": True}  # conv2 before its tap makes it the root
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("with_grad", [True, False])
def test_describing_leaves_the_model_as_it_was(outcome, images, model, meter, training, with_grad):
    pictures, network = images(5, seed=9), model("with norm", seed=9).train(training)
    network.conv.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    described(outcome, network, pictures, torch.arange(5), pictures.labels, ("relu",), meter, with_grad=with_grad)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training is training
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == {"conv.bias"}
    assert all(p.grad is None for p in network.parameters())
    assert torch.is_grad_enabled()


def test_an_error_on_the_way_leaves_the_model_as_it_was_too(outcome, images, model, meter):
    pictures, network = images(5, seed=10), model("lenet", seed=10).train()

    def labeler(batch: Batch) -> Tensor:
        raise RuntimeError("no label")

    describer = Describer(network, pictures, ("conv2",), 2, meter)
    with pytest.raises(RuntimeError, match="no label"):
        outcome(describer.describe(torch.arange(5), labeler, labels="true", with_grad=True, what="pool"))
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert torch.is_grad_enabled()
    assert network(torch.zeros(1, 1, 8, 8)).requires_grad


def test_stopping_half_way_leaves_the_model_as_it_was_too(images, model, meter):
    pictures, network = images(5, seed=11), model("lenet", seed=11).train()
    describer = Describer(network, pictures, ("conv2",), 2, meter)
    steps = describer.describe(torch.arange(5), labeled(pictures.labels), labels="true", with_grad=True, what="pool")
    next(steps)
    steps.close()
    assert network.training
    assert all(p.requires_grad for p in network.parameters())


def test_progress_counts_the_batches_of_what_is_described(images, model, meter):
    pictures = images(5, seed=12)
    describer = Describer(model("lenet", seed=12), pictures, ("conv2",), 2, meter)
    steps = list(
        describer.describe(torch.arange(5), labeled(pictures.labels), labels="true", with_grad=False, what="pool")
    )
    assert [tuple(step) for step in steps] == [("descriptors of pool", i, 3, "batches") for i in (1, 2, 3)]


def test_each_image_is_counted_once_forward_and_once_backward(outcome, images, model, meter):
    pictures, network = images(5, seed=13), model("lenet", seed=13)
    with meter.phase("with"):
        described(outcome, network, pictures, torch.arange(5), pictures.labels, ("conv2",), meter)
    with meter.phase("without"):
        described(outcome, network, pictures, torch.arange(5), pictures.labels, ("conv2",), meter, with_grad=False)
    assert dict(meter.forward_images) == {"with": 5, "without": 5}
    assert dict(meter.backward_images) == {"with": 5}


def features(outcome, network, pictures, indices, taps, meter, *, batch_size=3) -> Tensor:
    return outcome(Describer(network, pictures, taps, batch_size, meter).features(indices, what="pool"))


def test_features_stand_side_by_side_in_the_order_of_the_taps_and_keep_their_scale(outcome, images, model, meter):
    pictures, network = images(8, seed=20), model("lenet", seed=20)
    indices = torch.tensor([6, 1, 3, 0])
    found = features(outcome, network, pictures, indices, ("fc1", "conv2"), meter)
    exact = deepcopy(network).double().eval()
    for row, index in enumerate(indices.tolist()):
        with torch.no_grad():
            conv2 = exact.conv2(F.max_pool2d(exact.conv1(one_image(pictures, index)), 2))
            fc1 = exact.fc1(F.max_pool2d(conv2, 2).flatten(1))
        assert_close(found[row].double(), torch.cat([phi(fc1), phi(conv2)]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_batch_size_changes_no_feature(outcome, images, model, meter, batch_size):
    pictures, network, indices = images(7, seed=21), model("with norm", seed=21), torch.arange(7)
    expected = features(outcome, network, pictures, indices, ("relu", "norm"), meter)
    found = features(outcome, network, pictures, indices, ("relu", "norm"), meter, batch_size=batch_size)
    assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_features_cost_one_forward_pass_an_image_and_leave_the_model_as_it_was(outcome, images, model, meter, training):
    pictures, network = images(5, seed=22), model("with norm", seed=22).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with meter.phase("features"):
        found = features(outcome, network, pictures, torch.arange(5), ("relu",), meter)
    assert dict(meter.forward_images) == {"features": 5}
    assert not meter.backward_images
    assert not found.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training is training
    assert all(p.requires_grad for p in network.parameters())


def test_features_report_how_far_they_are(images, model, meter):
    steps = list(Describer(model("lenet", seed=23), images(5, seed=23), ("fc1",), 2, meter).features(
        torch.arange(5), what="labeled images"
    ))  # fmt: skip
    assert [tuple(step) for step in steps] == [("features of labeled images", i, 3, "batches") for i in (1, 2, 3)]
