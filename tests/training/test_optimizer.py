"""The optimizer of a network's weights."""

from __future__ import annotations

import torch

from radir_pacs.encode import CONFIGS
from radir_pacs.encode.network import RadirNetwork
from radir_pacs.types import ImageKind
from radir_training.learning.optimizer import MUON_RATE, Optimizer, hidden_weights


def network() -> RadirNetwork:
    torch.manual_seed(0)
    config = CONFIGS["tiny"].only(ImageKind.CT)
    return RadirNetwork(config, vocabulary_size=20, regions=["chest", "heart"], findings=["cardiomegaly"])


def with_gradients(seed: int) -> RadirNetwork:
    made = network()
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return made


def test_each_weight_is_moved_once() -> None:
    made = with_gradients(1)
    optimizer = Optimizer(made, 0.02)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    optimizer.step(1e-3)
    still = [name for name, parameter in made.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []
    by_adam = {id(p) for group in optimizer.adam.param_groups for p in group["params"]}
    assert not by_adam & {id(weight) for weight in optimizer.hidden}


def test_a_step_is_as_long_in_faint_directions_as_in_loud_ones() -> None:
    made = with_gradients(2)
    weight = made.get_parameter("blocks.0.feed.0.weight")
    assert any(weight is hidden for hidden in hidden_weights(made))
    loud = torch.zeros_like(weight)
    loud[0, 0] = 100.0  # one direction dominates all others
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) + loud
    before = weight.detach().clone()
    Optimizer(made, 0.0).step(1e-3)
    lengths = torch.linalg.svdvals((before - weight).detach())
    tall = (weight.shape[0] / weight.shape[1]) ** 0.5
    assert lengths[0] / lengths[len(lengths) // 2] < 2
    assert 0.5 < lengths[0] / (1e-3 * MUON_RATE * tall) < 1.5


def test_heads_names_and_gains_are_left_to_adam() -> None:
    made = network()
    hidden = {id(weight) for weight in hidden_weights(made)}
    left = {name for name, parameter in made.named_parameters() if parameter.ndim > 1 and id(parameter) not in hidden}
    assert {name.split(".")[0] for name in left} == {"severity", "described", "asked", "report", "view", "text"}
    assert "text.embedding.weight" in left


def test_what_stands_still_stays() -> None:
    made = with_gradients(4)
    optimizer = Optimizer(made, 0.02)
    weight = made.get_parameter("stems.CT.layers.0.weight")
    optimizer.step(1e-3)  # momentum there is
    optimizer.zero_grad()
    assert weight.grad is None
    before = weight.detach().clone()
    optimizer.step(1e-3)
    assert torch.equal(weight, before)


def test_adam_alone_moves_all_for_comparison() -> None:
    made = with_gradients(5)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    optimizer = Optimizer(made, 0.0, muon=False)
    optimizer.step(1e-3)
    for name, parameter in made.named_parameters():
        moved = (parameter.detach() - before[name]).abs()
        assert moved.max() < 1.01e-3 and moved.median() > 0.9e-3, name


def test_what_was_saved_is_there_again() -> None:
    optimizer = Optimizer(with_gradients(6), 0.02)
    optimizer.step(1e-3)
    saved = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    assert any(name.startswith("muon.") for name in saved) and any(name.startswith("adam.") for name in saved)
    again = Optimizer(network(), 0.02)
    again.restore(saved)
    assert again.state().keys() == saved.keys()
    for name, tensor in again.state().items():
        torch.testing.assert_close(tensor, saved[name], rtol=0, atol=0, msg=name)
