"""The GRU's training pass on the CPU gives PyTorch's numbers."""

import pytest
import torch
from torch import nn

from tal_core.models.cpu_kernels.gru import gru_hidden


@pytest.mark.parametrize(("layers", "length"), [(1, 1), (1, 9), (2, 7)])
def test_states_and_gradients_are_those_of_pytorch(layers, length):
    torch.manual_seed(0)
    gru = nn.GRU(5, 6, layers, batch_first=True).double()
    features = torch.randn(3, length, 5, dtype=torch.float64, requires_grad=True)
    into = torch.randn(3, length, 6, dtype=torch.float64)
    weights = [features, *gru.parameters()]

    theirs = gru(features)[0]
    expected = torch.autograd.grad((theirs * into).sum(), weights)
    ours = gru_hidden(gru, features)
    found = torch.autograd.grad((ours * into).sum(), weights)

    assert torch.allclose(ours, theirs, atol=1e-12)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_float32_gradient_of_the_last_snippet_alone():
    torch.manual_seed(0)
    gru, features = nn.GRU(32, 24, batch_first=True), torch.randn(4, 64, 32)
    weights = list(gru.parameters())
    expected = torch.autograd.grad(gru(features)[0][:, -1].square().sum(), weights)
    found = torch.autograd.grad(gru_hidden(gru, features)[:, -1].square().sum(), weights)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_without_gradients_the_layer_itself_runs():
    gru, features = nn.GRU(5, 6, batch_first=True), torch.randn(2, 4, 5)
    with torch.no_grad():
        assert torch.equal(gru_hidden(gru, features), gru(features)[0])
