"""Training of a GRU on the CPU: each weight gradient is one product over all steps.

PyTorch's CPU backward pass adds a whole weight matrix up at every step, which takes most of its time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tal_core.models.cpu_kernels.convolution import linear


def gru_hidden(gru: nn.GRU, features: torch.Tensor) -> torch.Tensor:
    """What ``gru`` (batch first, one direction) gives for ``(B, T, E)`` from a zero state: ``(B, T, H)``."""
    plain = features.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if not (plain and torch.is_grad_enabled()):
        return gru(features)[0]
    hidden = features
    for layer in range(gru.num_layers):
        weights = (f"weight_ih_l{layer}", f"bias_ih_l{layer}", f"weight_hh_l{layer}", f"bias_hh_l{layer}")
        into, into_bias, across, across_bias = (getattr(gru, name) for name in weights)
        hidden = _Recurrence.apply(linear(hidden, into, into_bias), across, across_bias)
    return hidden


class _Recurrence(torch.autograd.Function):
    """Hidden states ``(B, T, H)`` from what the input gives the gates ``(B, T, 3 H)``.

    reset, update = sigmoid(input + hidden part),  new = tanh(input + reset * hidden part),
    state = new + update * (state before - new)
    """

    @staticmethod
    def forward(ctx: Any, gates: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """``weight`` (3 H, H) and ``bias`` (3 H,) are those of the hidden state."""
        batch, length, width = gates.shape
        size = width // 3
        states = gates.new_zeros(length + 1, batch, size)
        kept = gates.new_empty(4, length, batch, size)
        reset, update, new, inner_new = kept
        for t in range(length):
            inner = torch.addmm(bias, states[t], weight.T)
            both = (gates[:, t, : 2 * size] + inner[:, : 2 * size]).sigmoid_()
            reset[t], update[t] = both.split(size, 1)
            inner_new[t] = inner[:, 2 * size :]
            torch.tanh(gates[:, t, 2 * size :] + reset[t] * inner_new[t], out=new[t])
            torch.lerp(new[t], states[t], update[t], out=states[t + 1])
        ctx.save_for_backward(kept, states, weight)
        return states[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the gates' input, the weight and the bias."""
        kept, states, weight = ctx.saved_tensors
        reset, update, new, inner_new = kept
        length, batch, size = reset.shape
        by_new = (1 - update) * (1 - new.square())
        by_update = (states[:-1] - new) * update * (1 - update)
        by_reset = by_new * inner_new * reset * (1 - reset)
        # Slope of a state by each gate's sum, (T, B, 3, H).
        slopes = torch.stack([by_reset, by_update, by_new * reset], dim=2)
        of_states = gradient.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        for t in range(length - 1, 0, -1):
            inner = (slopes[t] * of_states[t].unsqueeze(1)).view(batch, 3 * size)
            of_states[t - 1].addcmul_(of_states[t], update[t]).addmm_(inner, weight)
        inner = (slopes * of_states.unsqueeze(2)).view(length * batch, 3 * size)
        of_gates = inner.view(length, batch, 3, size).clone()
        of_gates[:, :, 2] = by_new * of_states
        return (
            of_gates.view(length, batch, 3 * size).transpose(0, 1),
            linear(inner.T, states[:-1].view(length * batch, size).T),
            inner.sum(0),
        )
