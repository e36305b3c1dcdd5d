"""What the rest of the program needs of a gated language model: weights, activations, tokens.

Processed weights (definitions.md, "Model and weights"), all in float32 and per family:

1. `w_gate, w_in` times the scale of the norm before the MLP (Gemma: 1 + w); that norm's bias b goes into
   `b_gate = b_gate + w_gate·b` and `b_in`, with the weights as loaded.
2. LayerNorm models: `w_in` and `w_out` are centred over d_model, `w_gate` is not.
3. `w_out` times the scale of the norm after the MLP, where there is one.
4. `W_U` times the final norm's scale, centred over the vocabulary, and over d_model too in LayerNorm models.

Activations are those of the loaded model itself, in its dtype; processed weights never produce any. The sign
convention is applied by whoever stores numbers, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronagent.errors import ModelError, NotFoundError, UnsupportedArchitectureError
from neuronagent.models.checkpoint import Checkpoint, open_tokenizer, open_weights, quiet
from neuronagent.models.families import Norm
from neuronagent.models.tokens import Vocabulary

Sink = Callable[[int, Tensor, Tensor], None]
"""Receives (layer, x_gate, x_in), both `[texts, tokens, neurons]`."""


@dataclass(frozen=True, kw_only=True)
class ProcessedLayer:
    """Processed weights of one layer, float32 on the CPU: `[N, d_model]`, one row per neuron; biases `[N]`."""

    w_gate: Tensor
    w_in: Tensor
    w_out: Tensor
    b_gate: Tensor | None
    b_in: Tensor | None


class GatedModel:
    """A loaded model. `n_layers`, `d_model`, `d_mlp`, `vocab_size` (rows of the embedding) are its sizes;
    `max_positions` is the longest text, BOS included, whose activations do not depend on the texts beside it;
    `bos_id` is the tokenizer's BOS, else its EOS, else None."""

    def __init__(
        self, checkpoint: Checkpoint, live: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer
    ) -> None:
        self._checkpoint = checkpoint
        self._family = checkpoint.family
        self._live = live
        self._base = live.get_submodule(self._family.base)
        self._layers = list(self._base.get_submodule("layers").children())
        self._embedding = _tensor(self._base.get_submodule("embed_tokens"), "weight")
        self._bridge: Any = None
        self.name: str = checkpoint.name
        self.revision: str | None = checkpoint.revision
        self.family: str = checkpoint.config.model_type
        self.activation: str = checkpoint.activation
        self.n_layers: int = len(self._layers)
        self.vocab_size, self.d_model = self._embedding.shape
        self.d_mlp: int = self._projection(0, "down_proj").weight.shape[1]
        self.max_positions: int = _max_positions(checkpoint.settings)
        self.device: torch.device = self._embedding.device
        self.dtype: str = str(self._embedding.dtype).removeprefix("torch.")
        bos = cast(int | None, tokenizer.bos_token_id)
        self.bos_id: int | None = cast(int | None, tokenizer.eos_token_id) if bos is None else bos
        self._vocabulary = Vocabulary(backend, self.vocab_size)

    @cached_property
    def weights_hash(self) -> str:
        """sha256 of the safetensors files (not of the tensors in memory); they are read once, when asked for."""
        return self._checkpoint.hash()

    @cached_property
    def config_hash(self) -> str:
        """sha256 of the configuration and the tokenizer, as their files have them."""
        return self._checkpoint.config_hash()

    @property
    def live(self) -> PreTrainedModel:
        """The Hugging Face model, LM head included."""
        return self._live

    def bridge(self) -> Any:
        """A `TransformerBridge` over weights of its own, made at the first call: it replaces modules in the model
        that it wraps and switches it to eager attention.

        Raises:
            UnsupportedArchitectureError: an image-and-text model. TransformerLens 4.3 looks for its image processor
                and, failing that, runs `pip install torchvision`, which can replace torch itself.
        """
        if self._family.base != "model":
            raise UnsupportedArchitectureError(
                f"{self.family} is an image-and-text model: TransformerLens would install packages to open it",
                remedy="record from it directly, or use a text-only checkpoint of the same family",
            )
        if self._bridge is None:
            from transformer_lens.model_bridge import TransformerBridge

            dtype, checkpoint = self._embedding.dtype, self._checkpoint
            live = open_weights(checkpoint, dtype=dtype, device=self.device, attention="eager")
            tokenizer, _ = open_tokenizer(checkpoint)
            with quiet():
                self._bridge = TransformerBridge.boot_transformers(
                    str(checkpoint.folder), hf_model=live, tokenizer=tokenizer, dtype=dtype, device=self.device
                )
        return self._bridge

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text: whole, no BOS added. Special tokens written out in a text become special tokens."""
        return self._vocabulary.encode(texts)

    def token_bytes(self) -> list[bytes | None]:
        """What each of the `vocab_size` ids stands for; None for ids that the tokenizer cannot decode."""
        return self._vocabulary.token_bytes()

    def activate(self, x_gate: Tensor) -> Tensor:
        """`act(x_gate)`, elementwise."""
        if self.activation == "silu":
            return functional.silu(x_gate)
        return functional.gelu(x_gate, approximate="tanh" if self.activation == "gelu_pytorch_tanh" else "none")

    def record(self, token_ids: Tensor, sink: Sink) -> None:
        """One forward pass without the LM head; `sink(layer, x_gate, x_in)` is called as each layer is computed.

        `token_ids` `[texts, tokens]`, each text from position 0, padded on the right with any id. There is no mask:
        a causal model's real tokens never see what follows, and values at padding mean nothing. The tensors
        `[texts, tokens, neurons]` have the model's dtype and are not kept; a sink that keeps them copies them.

        Raises:
            ModelError: more tokens than `max_positions`.
        """
        if token_ids.shape[1] > self.max_positions:
            raise ModelError(
                f"{token_ids.shape[1]} tokens are more than the {self.max_positions} that {self.name} reads"
            )
        handles = [handle for layer in range(self.n_layers) for handle in self._hook(layer, sink)]
        try:
            with torch.inference_mode():
                self._base(input_ids=token_ids.to(self.device), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int, sink: Sink) -> list[Any]:
        """Hooks on one layer's projections. The gate is computed first and waits for in."""
        fused = self._family.fused
        if fused is not None:

            def on_both(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                sink(layer, *output.chunk(2, dim=-1))

            return [self._projection(layer, fused).register_forward_hook(on_both)]
        waiting: list[Tensor] = []

        def on_gate(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            waiting.append(output)

        def on_in(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            sink(layer, waiting.pop(), output)

        return [
            self._projection(layer, "gate_proj").register_forward_hook(on_gate),
            self._projection(layer, "up_proj").register_forward_hook(on_in),
        ]

    def processed_layer(self, layer: int, *, post_norm: Literal["folded", "raw"] = "folded") -> ProcessedLayer:
        """Processed weights of one layer; `raw` leaves the scale of a norm after the MLP out of `w_out`."""
        if not 0 <= layer < self.n_layers:
            raise NotFoundError(f"layer {layer} does not exist", remedy=f"allowed: 0 to {self.n_layers - 1}")
        (w_gate, b_gate), (w_in, b_in) = self._gate_and_in(layer)
        w_out = _float(self._projection(layer, "down_proj").weight).T.contiguous()
        if self._family.pre_norm is not None:
            scale, shift = self._norm(self._layers[layer].get_submodule(self._family.pre_norm))
            w_gate, b_gate = fold(w_gate, b_gate, scale, shift)
            w_in, b_in = fold(w_in, b_in, scale, shift)
        if self._family.norm is Norm.LAYER:
            w_in, w_out = _centred(w_in, dim=1), _centred(w_out, dim=1)
        if self._family.post_norm is not None and post_norm == "folded":
            scale, _ = self._norm(self._layers[layer].get_submodule(self._family.post_norm))
            w_out, _ = fold(w_out, None, scale, None)
        return ProcessedLayer(w_gate=w_gate, w_in=w_in, w_out=w_out, b_gate=b_gate, b_in=b_in)

    def embedding(self) -> Tensor:
        """`W_E` as stored, `[vocab_size, d_model]`, float32 on the CPU; Gemma's factor √d_model is not in it."""
        return _float(self._embedding)

    def unembedding(self) -> Tensor:
        """Processed `W_U`, transposed: `[vocab_size, d_model]`, float32 on the CPU."""
        scale, _ = self._norm(self._base.get_submodule("norm"))
        rows, _ = fold(_float(_tensor(self._live.get_submodule("lm_head"), "weight")), None, scale, None)
        rows = _centred(rows, dim=0)
        return _centred(rows, dim=1) if self._family.norm is Norm.LAYER else rows

    def _projection(self, layer: int, name: str) -> nn.Linear:
        return cast(nn.Linear, self._layers[layer].get_submodule("mlp").get_submodule(name))

    def _gate_and_in(self, layer: int) -> list[tuple[Tensor, Tensor | None]]:
        """(weight `[N, d_model]`, bias `[N]` or None) of gate and in, as loaded."""
        if self._family.fused is None:
            linears = [self._projection(layer, "gate_proj"), self._projection(layer, "up_proj")]
            return [(_float(linear.weight), _maybe_float(linear.bias)) for linear in linears]
        both = self._projection(layer, self._family.fused)
        weights, bias = _float(both.weight).chunk(2), _maybe_float(both.bias)
        biases = (None, None) if bias is None else bias.chunk(2)
        return list(zip(weights, biases, strict=True))

    def _norm(self, norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift `[d_model]` of a norm; None for what it does not have."""
        scale, shift = (_maybe_float(cast(Tensor | None, getattr(norm, name, None))) for name in ("weight", "bias"))
        if scale is not None and self._family.norm is Norm.RMS_PLUS_ONE:
            scale = 1 + scale
        return scale, shift


def fold(rows: Tensor, bias: Tensor | None, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Rows and bias that do to `x` what `rows` `[n, d]` and `bias` `[n]` do to `scale·x + shift`."""
    if shift is not None:
        moved = rows @ shift
        bias = moved if bias is None else bias + moved
    return (rows if scale is None else rows * scale), bias


def _centred(rows: Tensor, *, dim: int) -> Tensor:
    # The mean over a vocabulary of 256,000 needs more than float32's sums; the difference does not.
    return rows - rows.mean(dim, keepdim=True, dtype=torch.float64).float()


def _float(tensor: Tensor) -> Tensor:
    """A float32 copy on the CPU, so that nobody changes the live weights through it."""
    return tensor.detach().to("cpu", torch.float32, copy=True)


def _maybe_float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _float(tensor)


def _tensor(module: nn.Module, name: str) -> Tensor:
    return cast(Tensor, getattr(module, name))


def _max_positions(settings: Any) -> int:
    """LongRoPE changes every position's angles once the longest text of a batch passes its original length."""
    ropes = cast(dict[str, Any], getattr(settings, "rope_parameters", None) or {})
    for rope in (ropes, *(value for value in ropes.values() if isinstance(value, dict))):
        if rope.get("rope_type") == "longrope":
            return int(cast(dict[str, Any], rope)["original_max_position_embeddings"])
    return int(settings.max_position_embeddings)
