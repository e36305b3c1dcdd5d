"""What each part of a model writes directly towards the logit of one token at one position, in one forward pass.

The last residual stream is a sum: the embedding, and what attention and MLP of every layer wrote. With the scale of
the final norm frozen at what it was in this very pass, the logits are linear in that sum:

1. u = W_U[t] − mean of W_U over the vocabulary, so that `x·u` is the logit of t less the mean logit (before a
   soft-cap). What moves all logits alike counts as nothing.
2. The direction of the residual stream that raises it: d = s·(w ⊙ u), with the final norm's weight w and the scale s
   that this norm had; a LayerNorm takes the mean away: d = s·(u − mean of u).
3. A neuron adds `post·(w_out·d)`. Where a norm follows the MLP, its weight and its scale in this pass are frozen in
   the same way: d of that layer is s′·(w′ ⊙ d).

Scales are read off the norms' inputs and outputs, so that no epsilon is assumed. Nothing else is left out: neurons,
biases, attention and embedding add up to the logit. What is not here are effects by way of later layers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from neuronagent.models.families import FAMILIES, Family, Norm
from neuronagent.models.gated import GatedModel

_ROWS = 8192  # of W_U, widened to float32 at a time


@dataclass(frozen=True)
class _FrozenNorm:
    """A norm at one position, as the linear map that it is once its scale is fixed."""

    weight: Tensor | None
    scale: Tensor
    centred: bool

    def forward(self, x: Tensor) -> Tensor:
        """What it makes of a part `[…, d_model]` of its input."""
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return self.scale * (x if self.weight is None else x * self.weight)

    backward = forward
    """The direction of its input that raises `u` of its output: the map is symmetric up to the order of the two steps,
    and a family has a weight or takes the mean away, never both."""


@dataclass(frozen=True, kw_only=True)
class DirectEffects:
    """Effects on the centred logit of the token `target` at one position; float32, `[layers, N]` and `[layers]`.

    `x_gate`, `x_in`, `post` are the model's own at that position; `mlp` is the effect of a layer's whole MLP, bias
    included, taken from what it wrote. `centred_logit` and `logits` `[V]` are the model's; soft-caps are in `logits`
    only.
    """

    target: int
    x_gate: Tensor
    x_in: Tensor
    post: Tensor
    neurons: Tensor
    mlp: Tensor
    mlp_bias: Tensor
    attention: Tensor
    embedding: float
    head_bias: float
    centred_logit: float
    logits: Tensor
    final_norm: _FrozenNorm
    post_norms: tuple[_FrozenNorm | None, ...]

    @property
    def residual(self) -> float:
        """The logit less everything that was found to add up to it: rounding, if the sums are right."""
        parts = self.neurons.double().sum() + self.mlp_bias.double().sum() + self.attention.double().sum()
        return self.centred_logit - self.embedding - self.head_bias - float(parts)


class _Seen:
    """What modules read and wrote at the last position of a pass, by a name."""

    def __init__(self) -> None:
        self.read: dict[str, Tensor] = {}
        self.wrote: dict[str, Tensor] = {}

    @contextmanager
    def watching(self, modules: dict[str, nn.Module]) -> Generator[None]:
        handles = [module.register_forward_hook(self._hook(name), with_kwargs=True) for name, module in modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            wrote: Tensor = output[0] if isinstance(output, tuple) else output
            self.read[name] = (inputs[0] if inputs else named["hidden_states"])[0, -1].clone()
            self.wrote[name] = wrote[0, -1].clone()

        return hook


def direct_effects(model: GatedModel, token_ids: Tensor, target: int) -> DirectEffects:
    """Effects on the logit of `target` as the token after `token_ids` `[1, tokens]`.

    Raises:
        ModelError: more tokens than `max_positions`.
    """
    family = FAMILIES[model.family]
    base = model.live.get_submodule(family.base)
    layers = list(base.get_submodule("layers").children())
    seen, gates, ins = _Seen(), list[Tensor](), list[Tensor]()

    def sink(_layer: int, x_gate: Tensor, x_in: Tensor) -> None:
        gates.append(x_gate[0, -1].float().cpu())
        ins.append(x_in[0, -1].float().cpu())

    with seen.watching(_watched(base, layers, family)), torch.inference_mode():
        final = model.run(token_ids, sink=sink)[0, -1]
        logits = model.logits(final).float().cpu()
        head = cast(nn.Linear, cast(Any, model.live).get_output_embeddings())
        raw = head(final).double().cpu()
        norm = _frozen(base.get_submodule("norm"), seen, "norm", family)
        towards = (head.weight[target].float() - head.weight.mean(dim=0, dtype=torch.float32)).cpu()
        direction = norm.backward(towards.double())
        found = [_layer_effects(layer, seen, str(n), family, direction) for n, layer in enumerate(layers)]
    return DirectEffects(
        target=target,
        x_gate=torch.stack(gates),
        x_in=torch.stack(ins),
        post=torch.stack([seen.read[f"{n}.down"].float().cpu() for n in range(len(layers))]),
        neurons=torch.stack([each.neurons for each in found]),
        mlp=torch.tensor([each.mlp for each in found]),
        mlp_bias=torch.tensor([each.bias for each in found]),
        attention=torch.tensor([each.attention for each in found]),
        embedding=_along(seen.read["first"], direction),
        head_bias=0.0 if head.bias is None else float((head.bias[target] - head.bias.double().mean()).item()),  # pyright: ignore[reportUnnecessaryComparison]
        centred_logit=float((raw[target] - raw.mean()).item()),
        logits=logits,
        final_norm=norm,
        post_norms=tuple(each.post_norm for each in found),
    )


def target_ranks(model: GatedModel, effects: DirectEffects, neurons: Sequence[tuple[int, int]]) -> list[int]:
    """For each (layer, index): the place of the target among all tokens that the neuron moves in the same direction
    here, 1 for the token that it moves most. A neuron that merely writes much has a high place for hardly any token."""
    if not neurons:
        return []
    family = FAMILIES[model.family]
    layers = list(model.live.get_submodule(family.base).get_submodule("layers").children())
    written = list[Tensor]()
    with torch.inference_mode():
        for layer, index in neurons:
            out = cast(nn.Linear, layers[layer].get_submodule("mlp.down_proj")).weight[:, index].cpu().double()
            part, norm = out * effects.post[layer, index].double(), effects.post_norms[layer]
            written.append(effects.final_norm.forward(part if norm is None else norm.forward(part)))
        rows = cast(Tensor, cast(Any, model.live).get_output_embeddings().weight)
        columns = torch.stack(written, dim=1).float().to(rows.device)  # [d_model, neurons]
        moved = torch.cat([block.float() @ columns for block in rows.split(_ROWS)])  # [V, neurons]
        own = moved[effects.target]
        direction = torch.where(own < moved.mean(dim=0), -1.0, 1.0)
        return (1 + (moved * direction > own * direction).sum(dim=0)).tolist()


@dataclass(frozen=True)
class _LayerEffects:
    neurons: Tensor
    mlp: float
    bias: float
    attention: float
    post_norm: _FrozenNorm | None


def _layer_effects(layer: nn.Module, seen: _Seen, name: str, family: Family, direction: Tensor) -> _LayerEffects:
    down = cast(nn.Linear, layer.get_submodule("mlp.down_proj"))
    norm = None
    if family.post_norm is not None:
        norm = _frozen(layer.get_submodule(family.post_norm), seen, f"{name}.mlp", family)
    own = direction if norm is None else norm.backward(direction)
    reach = down.weight.float().T @ own.float().to(down.weight.device)  # [N]
    bias = cast("Tensor | None", down.bias)
    return _LayerEffects(
        neurons=seen.read[f"{name}.down"].float().cpu() * reach.cpu(),
        mlp=_along(seen.wrote[f"{name}.mlp"], direction),
        bias=0.0 if bias is None else _along(bias, own),
        attention=_along(seen.wrote[f"{name}.attention"], direction),
        post_norm=norm,
    )


def _watched(base: nn.Module, layers: Sequence[nn.Module], family: Family) -> dict[str, nn.Module]:
    """The modules whose last output is written to the residual stream, those that scale it, and those in between."""
    after = [name for name in family.other_norms if name != family.attention_norm]
    found = {"norm": base.get_submodule("norm"), "first": layers[0]}
    for number, layer in enumerate(layers):
        found[f"{number}.down"] = layer.get_submodule("mlp.down_proj")
        found[f"{number}.mlp"] = layer.get_submodule(family.post_norm or "mlp")
        found[f"{number}.attention"] = layer.get_submodule(after[0] if after else "self_attn")
    return found


def _frozen(module: nn.Module, seen: _Seen, name: str, family: Family) -> _FrozenNorm:
    """A norm with the scale that it had: its output is that many times what it makes of its input without one."""
    weight = None
    if family.norm is not Norm.LAYER:
        stored = cast(Tensor, module.weight).double().cpu()
        weight = 1 + stored if family.norm is Norm.RMS_PLUS_ONE else stored
    unscaled = _FrozenNorm(weight, torch.ones((), dtype=torch.float64), family.norm is Norm.LAYER)
    x = unscaled.forward(seen.read[name].double().cpu())
    size = x @ x
    scale = (seen.wrote[name].double().cpu() @ x) / size if size > 0 else torch.zeros((), dtype=torch.float64)
    return _FrozenNorm(weight, scale, unscaled.centred)


def _along(part: Tensor, direction: Tensor) -> float:
    return float((part.double().cpu() @ direction).item())
