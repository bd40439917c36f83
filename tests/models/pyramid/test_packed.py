"""Layers that keep their weight in oneDNN's layout for inference, and wide convolutions in training."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from tal_core.models.cpu_kernels import winograd
from tal_core.models.cpu_kernels.convolution import FEWEST_CHANNELS, FEWEST_TRAINED, Convolution, Linear


def convolved(layer, x):
    return F.conv1d(x.transpose(1, 2), layer.weight, layer.bias, padding=layer.padding).transpose(1, 2)


LAYERS = {
    "linear": (lambda: Linear(6, 5), lambda layer, x: F.linear(x, layer.weight, layer.bias)),
    "one tap": (lambda: Convolution(6, 5, 1), convolved),
    "three taps": (lambda: Convolution(6, 5, 3), convolved),
    "without bias": (lambda: Convolution(6, 5, 5, bias=False), convolved),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_changed_weight_is_packed_anew(kind):
    make, expected = LAYERS[kind]
    torch.manual_seed(0)
    layer = make()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for length in (40, 3, 200):
        x = torch.randn(2, length, 6)
        with torch.inference_mode():
            torch.testing.assert_close(layer(x), expected(layer, x))
        layer(x).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected(layer, x))
        layer.load_state_dict(make().state_dict())
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected(layer, x))


@pytest.mark.parametrize("length", [64, 65, 66, 67, 301])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_wide_convolutions_save_multiplications(length, batch, bias, monkeypatch):
    torch.manual_seed(0)
    layer = Convolution(FEWEST_CHANNELS, FEWEST_CHANNELS + 3, 3, bias=bias)
    if bias:
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(batch, length, FEWEST_CHANNELS)
    filtered = []
    original = winograd.transform_filters
    monkeypatch.setattr(winograd, "transform_filters", lambda weight: filtered.append(1) or original(weight))
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(x), convolved(layer, x), rtol=1e-5, atol=2e-5)
        assert filtered == [1], "once for one weight"
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), convolved(layer, x), rtol=1e-5, atol=4e-5)
    assert len(filtered) == 2


@pytest.mark.parametrize(("batch", "length"), [(1, 64), (2, 65), (1, 67), (3, 70)])
def test_wide_convolutions_are_trained_by_the_gradients_of_the_direct_sum(batch, length, monkeypatch):
    torch.manual_seed(0)
    layer = Convolution(FEWEST_TRAINED, FEWEST_TRAINED + 3, 3)
    x = torch.randn(batch, length, FEWEST_TRAINED, requires_grad=True)
    with_respect_to = (x, layer.weight, layer.bias)
    filtered = []
    original = winograd.transposed_output
    monkeypatch.setattr(winograd, "transposed_output", lambda part: filtered.append(1) or original(part))
    out = layer(x)
    pull = torch.randn_like(out)
    found = torch.autograd.grad(out, with_respect_to, pull)
    assert filtered == [1]
    expected = torch.autograd.grad(convolved(layer, x), with_respect_to, pull)
    torch.testing.assert_close(out, convolved(layer, x), rtol=1e-5, atol=2e-5)
    for ours, direct in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, direct, rtol=1e-5, atol=1e-5 * direct.abs().max().item())


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_have_their_own(kind, copied):
    make, expected = LAYERS[kind]
    layer, x = make(), torch.randn(1, 9, 6)
    with torch.no_grad():
        before = layer(x)
        other = copied(layer)
        other.weight.mul_(2)
        torch.testing.assert_close(other(x), expected(other, x))
        torch.testing.assert_close(layer(x), before)
    assert set(layer.state_dict()) <= {"weight", "bias"}
