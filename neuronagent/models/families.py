"""Which model families are understood, and how each one's MLP is wired.

One entry per family, over one shared definition: a neuron reads `x = norm(residual)` (or the residual itself),
computes `post = act(w_gate·x + b_gate) · (w_in·x + b_in)` and writes `post · w_out`, possibly through a second norm.
An entry says what these are called in the Hugging Face module tree. The same name can mean different things:
`post_attention_layernorm` is the norm before the MLP in Llama, and the norm after attention in Gemma 2 and OLMo 2.

Everything that an entry does not say is refused by the name of the attribute that is in the way: first from the
configuration alone (before any weight is read), then on the module tree, so that a newer transformers that adds a
norm or renames a projection is noticed rather than mismodelled.

Not handled: mixtures of experts, quantised weights, bidirectional attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import nn

from neuronagent.domain import clip
from neuronagent.errors import UnsupportedArchitectureError

ACTIVATIONS: tuple[str, ...] = ("silu", "gelu", "gelu_pytorch_tanh")
"""The activations that are modelled, by Hugging Face's name: their minima are known (definitions.md)."""


class Norm(Enum):
    """What a norm does to its input: divide by the RMS or standardise, then multiply by a scale."""

    RMS = "RMS, times the weight"
    RMS_PLUS_ONE = "RMS, times 1 + the weight"
    LAYER = "LayerNorm without parameters"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family. `prefix`: how its classes' names begin. Norms are attributes of a layer; `other_norms` concern
    attention alone. `base`: path from the language model to the module with `embed_tokens`, `layers` and `norm`.
    `fused`: name of one projection that holds gate (first half) and in (second half); `qkv`: of one that holds
    queries, keys and values. `attention_norm`: the norm before attention, among `other_norms`, or None where attention
    reads the residual itself. `qk_norm`: queries and keys are normalised before they meet."""

    prefix: str
    pre_norm: str | None = "post_attention_layernorm"
    post_norm: str | None = None
    other_norms: tuple[str, ...] = ("input_layernorm",)
    norm: Norm = Norm.RMS
    norm_class: str = "RMSNorm"
    attention_norm: str | None = "input_layernorm"
    qk_norm: bool = False
    fused: str | None = None
    qkv: str | None = None
    act_module: str = "act_fn"
    extra_modules: tuple[str, ...] = ()
    act_setting: str = "hidden_act"
    attention: tuple[str, ...] = ("sdpa", "eager")
    base: str = "model"

    @property
    def projections(self) -> tuple[str, ...]:
        """Names of the projections in `mlp`; the last one is out."""
        return (self.fused, "down_proj") if self.fused else ("gate_proj", "up_proj", "down_proj")

    @property
    def attention_children(self) -> frozenset[str]:
        norms = ("q_norm", "k_norm") if self.qk_norm else ()
        return frozenset((*((self.qkv,) if self.qkv else ("q_proj", "k_proj", "v_proj")), "o_proj", *norms))

    @property
    def no_attention_scores(self) -> str | None:
        """Why what attention reads cannot be said from W_Q and the key of BOS alone; None where it can."""
        if self.qk_norm:
            return "queries and keys are normalised (q_norm, k_norm) before they meet"
        return None if self.attention_norm else "no norm precedes attention"

    @property
    def layer_children(self) -> frozenset[str]:
        norms = (name for name in (self.pre_norm, self.post_norm, *self.other_norms) if name)
        return frozenset(("self_attn", "mlp", *norms, *self.extra_modules))


def _gemma(prefix: str, **changes: Any) -> Family:
    """Gemma 2 and 3: four norms per layer, `1 + weight`, tanh GELU."""
    return Family(
        prefix=prefix,
        pre_norm="pre_feedforward_layernorm",
        post_norm="post_feedforward_layernorm",
        other_norms=("input_layernorm", "post_attention_layernorm"),
        norm=Norm.RMS_PLUS_ONE,
        act_setting="hidden_activation",
        **changes,
    )


def _olmo_post_norm(prefix: str) -> Family:
    """OLMo 2 and 3: norms follow attention and the MLP, none precedes them."""
    return Family(
        prefix=prefix,
        pre_norm=None,
        post_norm="post_feedforward_layernorm",
        other_norms=("post_attention_layernorm",),
        attention_norm=None,
        qk_norm=True,
    )


FAMILIES: Mapping[str, Family] = {
    "llama": Family(prefix="Llama"),
    "mistral": Family(prefix="Mistral"),
    "qwen2": Family(prefix="Qwen2"),
    "qwen3": Family(prefix="Qwen3", qk_norm=True),
    "gemma": Family(prefix="Gemma", norm=Norm.RMS_PLUS_ONE),
    # Soft-capped attention scores exist in the eager implementation only: transformers refuses sdpa here.
    "gemma2": _gemma("Gemma2", attention=("eager",)),
    "gemma3_text": _gemma("Gemma3", qk_norm=True),
    "gemma3": _gemma("Gemma3", qk_norm=True, base="model.language_model"),
    "olmo": Family(prefix="Olmo", norm=Norm.LAYER, norm_class="LayerNorm"),
    "olmo2": _olmo_post_norm("Olmo2"),
    "olmo3": _olmo_post_norm("Olmo3"),
    "phi3": Family(
        prefix="Phi3",
        fused="gate_up_proj",
        qkv="qkv_proj",
        act_module="activation_fn",
        extra_modules=("resid_attn_dropout", "resid_mlp_dropout"),
    ),
}
"""By Hugging Face's `model_type`; Yi is a llama. `gemma3` is the image-and-text wrapper around a `gemma3_text`."""

_PLAIN_MLPS: Mapping[str, str] = {
    "gpt2": "c_fc and c_proj",
    "gpt_neo": "c_fc and c_proj",
    "gptj": "fc_in and fc_out",
    "gpt_neox": "dense_h_to_4h and dense_4h_to_h",
    "bloom": "dense_h_to_4h and dense_4h_to_h",
    "falcon": "dense_h_to_4h and dense_4h_to_h",
    "opt": "fc1 and fc2",
    "phi": "fc1 and fc2",
    "starcoder2": "c_fc and c_proj",
    "nemotron": "up_proj and down_proj",
}
"""Families without a gate: there is nothing that sign combinations could be made of."""

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_REMEDY = f"supported model types: {', '.join(FAMILIES)}"


def family_of(config: Mapping[str, Any]) -> Family:
    """The entry for a raw `config.json`.

    Raises:
        UnsupportedArchitectureError: an unknown family, an MLP without a gate, experts, or quantised weights.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UnsupportedArchitectureError("config.json has no `model_type`", remedy=_REMEDY)
    nested = config.get("text_config")
    settings: dict[str, Any] = {**config, **(nested if isinstance(nested, Mapping) else {})}
    for name in _EXPERTS:
        # A list (one number per layer) is a mixture as well; 0 and null say that there are no experts.
        if settings.get(name):
            raise UnsupportedArchitectureError(
                f"{clip(model_type)}: `{name}` = {clip(str(settings[name]))}: mixtures of experts are not modelled",
                remedy=_REMEDY,
            )
    if model_type in _PLAIN_MLPS:
        raise UnsupportedArchitectureError(
            f"{model_type} has no `mlp.gate_proj`: its MLP is not gated (it has {_PLAIN_MLPS[model_type]})",
            remedy=_REMEDY,
        )
    if model_type not in FAMILIES:
        raise UnsupportedArchitectureError(f"`model_type` {clip(model_type)!r} is not known", remedy=_REMEDY)
    if settings.get("quantization_config"):
        raise UnsupportedArchitectureError(
            f"{model_type}: `quantization_config` is set: weight vectors of quantised models are not modelled",
            remedy="use the original weights in bfloat16 or float32",
        )
    return FAMILIES[model_type]


def activation_of(settings: Any, family: Family) -> str:
    """The activation's name in a text model's configuration object, which fills in defaults and rewrites old names
    (Gemma 1's `gelu` means its tanh approximation).

    Raises:
        UnsupportedArchitectureError: another activation than `ACTIVATIONS`, or attention that is not causal.
    """
    if getattr(settings, "use_bidirectional_attention", None):
        raise UnsupportedArchitectureError(
            "`use_bidirectional_attention` is set: a token would depend on those after it", remedy=_REMEDY
        )
    activation = getattr(settings, family.act_setting, None)
    if activation not in ACTIVATIONS:
        raise UnsupportedArchitectureError(
            f"`{family.act_setting}` = {clip(str(activation))!r} is not modelled",
            remedy=f"allowed: {', '.join(ACTIVATIONS)}",
        )
    return activation


def check_modules(live: nn.Module, family: Family) -> None:
    """Compare a loaded model's module tree with its entry.

    Raises:
        UnsupportedArchitectureError: a class or a child that the entry does not say.
    """
    base = live.get_submodule(family.base)
    _expect(base.get_submodule("norm"), family.prefix + family.norm_class, f"{family.base}.norm", None)
    for number, layer in enumerate(base.get_submodule("layers").children()):
        path = f"layers.{number}"
        _expect(layer, f"{family.prefix}DecoderLayer", path, family.layer_children)
        mlp = layer.get_submodule("mlp")
        _expect(mlp, f"{family.prefix}MLP", f"{path}.mlp", frozenset((*family.projections, family.act_module)))
        for name in family.projections:
            _expect(mlp.get_submodule(name), "Linear", f"{path}.mlp.{name}", None)
        attention = layer.get_submodule("self_attn")
        _expect(attention, f"{family.prefix}Attention", f"{path}.self_attn", family.attention_children)
        for name in (family.pre_norm, family.post_norm, family.attention_norm):
            if name is not None:
                _expect(layer.get_submodule(name), family.prefix + family.norm_class, f"{path}.{name}", None)


def _expect(module: nn.Module, class_name: str, path: str, children: frozenset[str] | None) -> None:
    if type(module).__name__ != class_name:
        raise UnsupportedArchitectureError(f"`{path}` is a {type(module).__name__}, not a {class_name}", remedy=_REMEDY)
    if children is not None:
        found = frozenset(name for name, _ in module.named_children())
        for name in sorted(children ^ found):
            what = "is missing" if name in children else "is not understood"
            raise UnsupportedArchitectureError(f"`{path}.{name}` {what}", remedy=_REMEDY)
