"""The planted model in float64 with `post` changed, and its measures token by token: slow references."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from neuronagent.domain import NeuronId
from neuronagent.service.live.model import LiveModel, open_live
from neuronagent.service.lookup import Index
from tests.known_index import world
from tests.planted import LAYERS, Array

torch.set_num_threads(1)


@cache
def live() -> LiveModel:
    """The planted model beside its index, one for the session."""
    return open_live(Index(str(world().db)))


ChangePost = Callable[[int, Array, Array, Array], Array]
"""(layer, post, x_gate, x_in), `[tokens, neurons]` each and in the model's signs → what is written instead."""


def as_it_is(_layer: int, post: Array, _gate: Array, _into: Array) -> Array:
    return post


def hooked_logits(ids: list[int], change: ChangePost) -> Array:
    """Logits `[tokens, vocabulary]` of Hugging Face's own model with hooks of the test's own."""
    model = _hugging_face()
    handles = []
    for number in range(LAYERS):
        mlp = model.model.layers[number].mlp

        def replaced(_module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor, number: int = number):
            mlp = model.model.layers[number].mlp
            x = inputs[0][0]
            gate, into = (x @ projection.weight.T for projection in (mlp.gate_proj, mlp.up_proj))
            post = torch.nn.functional.silu(gate) * into
            written = change(number, *(each.double().numpy() for each in (post, gate, into)))
            return (torch.from_numpy(written).float() @ mlp.down_proj.weight.T)[None]

        handles.append(mlp.register_forward_hook(replaced))
    try:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].double().numpy()
    finally:
        for handle in handles:
            handle.remove()


@cache
def _hugging_face():
    return AutoModelForCausalLM.from_pretrained(world().model.folder, dtype=torch.float32).eval()


def exact_logits(ids: list[int], change: ChangePost) -> Array:
    """Logits in float64, from the processed weights: what is written about the planted model, followed by hand."""
    planted = world().model
    gates, _ = planted.pre_activations(ids)
    normed = planted.embedding[ids] / np.sqrt((planted.embedding[ids] ** 2).mean(-1, keepdims=True) + 1e-6)
    residual = planted.embedding[ids].copy()
    residual[:, 7] += 8.0 * np.cumsum(normed[:, 5]) / np.arange(1, len(ids) + 1)
    for layer in range(LAYERS):
        x = residual / np.sqrt((residual**2).mean(-1, keepdims=True) + 1e-6)
        gate, into = x @ planted.gate[layer].T, x @ planted.input[layer].T
        if layer == 0:
            np.testing.assert_allclose(gate, gates[0])
        post = gate / (1 + np.exp(-gate)) * into
        residual += change(layer, post, gate, into) @ planted.out[layer]
    return residual / np.sqrt((residual**2).mean(-1, keepdims=True) + 1e-6) @ planted.unembedding.T


def set_at(neuron: NeuronId, value: float, where: Callable[[int], bool]) -> ChangePost:
    """Writes `value` at the positions that `where` says."""

    def change(layer: int, post: Array, _gate: Array, _into: Array) -> Array:
        written = post.copy()
        for position in range(len(post)):
            if layer == neuron.layer and where(position):
                written[position, neuron.index] = value
        return written

    return change


def log_softmax(row: Array) -> list[float]:
    top = float(row.max())
    total = math.log(math.fsum(math.exp(float(each) - top) for each in row)) + top
    return [float(each) - total for each in row]


def measured(before: Array, after: Array, target: int | None) -> dict[str, float]:
    """Loss, entropy, KL and rank at one position, from its logits before and after, in plain loops."""
    lp, lq = log_softmax(before), log_softmax(after)
    return {
        "loss": math.nan if target is None else -lq[target],
        "entropy": -math.fsum(math.exp(each) * each for each in lq),
        "kl": math.fsum(math.exp(p) * (p - q) for p, q in zip(lp, lq, strict=True)),
        "rank": 0 if target is None else 1 + sum(each > after[target] for each in after),
        "top": max(range(len(lq)), key=lambda token: lq[token]),
    }
