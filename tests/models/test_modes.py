import pytest
import torch
from torch import nn

from fkal.models.modes import evaluating, learning
from fkal.models.registry import build, head_name

SMALL = (1, 32, 32)


def resnet() -> nn.Module:
    return build("resnet10", SMALL, 3)


def flags(model: nn.Module) -> dict[str, bool]:
    return {name: p.requires_grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_freezes_the_model_only_within_its_block(training):
    network = resnet().train(training)
    with evaluating(network):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
    assert network.training is training
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_within_learning_the_learner_alone_trains_and_has_gradients(training):
    network = resnet().train(training)
    head = network.get_submodule(head_name(network))
    with learning(network, head):
        assert head.training
        assert not any(layer.training for layer in network.modules() if layer is not head)
        assert flags(network) == {name: name.startswith("fc.") for name in flags(network)}
    assert all(flags(network).values())


def test_where_the_whole_model_learns_all_of_it_is_in_training_mode():
    network = resnet().eval()
    with learning(network, network):
        assert all(layer.training for layer in network.modules())
        assert all(flags(network).values())


def test_what_was_frozen_before_stays_frozen():
    network = resnet()
    network.conv1.weight.requires_grad_(False)
    network.fc.bias.requires_grad_(False)
    before = flags(network)
    for learner in (network, network.fc, network.layer4):
        with learning(network, learner):
            assert not network.conv1.weight.requires_grad
            assert not network.fc.bias.requires_grad
        assert flags(network) == before


def test_an_error_within_learning_gives_the_gradients_back_too():
    network = resnet()
    with pytest.raises(RuntimeError, match="on the way"), learning(network, network.fc):
        raise RuntimeError("on the way")
    assert all(flags(network).values())


def test_a_frozen_body_keeps_the_statistics_of_its_normalisation():
    network = resnet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with learning(network, network.fc):
        network(torch.randn(4, *SMALL, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
