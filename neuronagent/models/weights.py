"""What a checkpoint tells without a loaded model: sizes, processed weights, tokens, and the keys of BOS.

Every tensor comes from the safetensors files in float32, one layer at a time; a model that is loaded beside
(`gated.py`) may have another dtype and changes nothing here.

The key of BOS (for attention roles) needs a forward pass of that one token: each layer is the family's own module,
given its tensors for as long as it runs; only the residual stream is carried on. A single token attends to itself with
weight 1 whatever its position, so that neither rotary embeddings nor masks have a say.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportPrivateImportUsage]
from transformers import PreTrainedTokenizerBase

from neuronagent.errors import NotFoundError, UnsupportedArchitectureError
from neuronagent.models.checkpoint import Checkpoint, skeleton
from neuronagent.models.families import Norm
from neuronagent.models.processing import AttentionReads, ProcessedLayer, centre_columns, centre_rows, fold
from neuronagent.models.tensors import TensorFiles
from neuronagent.models.tokens import Vocabulary


class ModelWeights:
    """A gated language model on the disk. `n_layers`, `d_model`, `d_mlp`, `vocab_size` (rows of the embedding) are its
    sizes; `dtype` is that of its activations, here of the processed weights; `max_positions` is the longest text, BOS
    included, whose activations do not depend on the texts beside it; `bos_id` is the tokenizer's BOS, else its EOS,
    else None."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> None:
        self._checkpoint = checkpoint
        self._family = checkpoint.family
        self._files = TensorFiles(checkpoint.weights)
        self.name: str = checkpoint.name
        self.revision: str | None = checkpoint.revision
        self.family: str = checkpoint.config.model_type
        self.activation: str = checkpoint.activation
        self.n_layers: int = checkpoint.settings.num_hidden_layers
        self.vocab_size, self.d_model = self._files.embedding_shape
        self.d_mlp: int = self._files.shape("layers.0.mlp.down_proj.weight")[1]
        self.max_positions: int = _max_positions(checkpoint.settings)
        self.dtype: str = "float32"
        bos = cast(int | None, tokenizer.bos_token_id)
        self.bos_id: int | None = cast(int | None, tokenizer.eos_token_id) if bos is None else bos
        self._vocabulary = Vocabulary(backend, self.vocab_size)

    @cached_property
    def weights_hash(self) -> str:
        """sha256 of the safetensors files; they are read once, when asked for."""
        return self._checkpoint.hash()

    @cached_property
    def config_hash(self) -> str:
        """sha256 of the configuration and the tokenizer, as their files have them."""
        return self._checkpoint.config_hash()

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text: whole, no BOS added. Special tokens written out in a text become special tokens."""
        return self._vocabulary.encode(texts)

    def token_bytes(self) -> list[bytes | None]:
        """What each of the `vocab_size` ids stands for; None for ids that the tokenizer cannot decode."""
        return self._vocabulary.token_bytes()

    def check(self) -> None:
        """Compare every safetensors header with the modules that config.json describes; a loaded model has been.

        Raises:
            ModelError: tensors that are missing, left over or of another shape.
            UnsupportedArchitectureError: a module tree that the family's entry does not say.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in self._modules.state_dict().items()}
        tied = bool(self._checkpoint.config.tie_word_embeddings)
        self._files.check(expected, tied=tied, alone=self._family.base == "model")

    # Weights

    def processed_layer(self, layer: int, *, post_norm: Literal["folded", "raw"] = "folded") -> ProcessedLayer:
        """Processed weights of one layer, the caller's own; `raw` leaves the scale of a norm after the MLP out of
        `w_out`."""
        self._check_layer(layer)
        (w_gate, b_gate), (w_in, b_in) = self._gate_and_in(layer)
        w_out = self._files.read(f"layers.{layer}.mlp.down_proj.weight").T.contiguous()
        if self._family.pre_norm is not None:
            scale, shift = self._norm(f"layers.{layer}.{self._family.pre_norm}")
            w_gate, b_gate = fold(w_gate, b_gate, scale, shift)
            w_in, b_in = fold(w_in, b_in, scale, shift)
        if self._family.norm is Norm.LAYER:
            centre_rows(w_in)
            centre_rows(w_out)
        if self._family.post_norm is not None and post_norm == "folded":
            scale, _ = self._norm(f"layers.{layer}.{self._family.post_norm}")
            w_out, _ = fold(w_out, None, scale, None)
        return ProcessedLayer(w_gate=w_gate, w_in=w_in, w_out=w_out, b_gate=b_gate, b_in=b_in)

    def embedding(self) -> Tensor:
        """`W_E` as stored, `[vocab_size, d_model]`, float32 on the CPU; Gemma's factor √d_model is not in it."""
        return self._files.read_embedding()

    def unembedding(self) -> Tensor:
        """Processed `W_U`, transposed: `[vocab_size, d_model]`, float32 on the CPU."""
        scale, _ = self._norm("norm")
        rows = self._files.read_head()
        if scale is not None:
            rows *= scale
        centre_columns(rows)
        if self._family.norm is Norm.LAYER:
            centre_rows(rows)
        return rows

    # Attention

    @property
    def no_attention_scores(self) -> str | None:
        """Why `attention_reads` and `bos_keys` are not to be had, in words; None where they are."""
        if self.bos_id is None:
            return "the tokenizer has neither BOS nor EOS"
        return self._family.no_attention_scores

    def attention_reads(self, layer: int) -> AttentionReads:
        """W_Q and W_K of one layer by head.

        Raises:
            UnsupportedArchitectureError: `no_attention_scores` says why.
        """
        self._check_layer(layer)
        self._check_attention()
        heads, groups, width = self._heads
        (w_q, b_q), (w_k, b_k) = self._query_and_key(layer)
        scale, shift = self._norm(f"layers.{layer}.{self._family.attention_norm}")
        w_q, b_q = fold(w_q, b_q, scale, shift)
        w_k, b_k = fold(w_k, b_k, scale, shift)
        if self._family.norm is Norm.LAYER:
            centre_rows(w_q)
            centre_rows(w_k)
        return AttentionReads(
            w_q=w_q.view(heads, width, -1),
            w_k=w_k.view(groups, width, -1),
            b_q=None if b_q is None else b_q.view(heads, width),
            b_k=None if b_k is None else b_k.view(groups, width),
        )

    def bos_keys(self) -> Iterator[Tensor]:
        """For each layer in turn the keys `[key groups, head_dim]` of BOS at position 0, biases included, no rotary.

        The layers run one after the other in float32, one in memory at a time.

        Raises:
            UnsupportedArchitectureError: `no_attention_scores` says why.
        """
        self._check_attention()
        return self._bos_keys(cast(int, self.bos_id))

    def _bos_keys(self, bos_id: int) -> Iterator[Tensor]:
        width = self._heads[2]
        scale = getattr(self._modules.get_submodule("embed_tokens"), "scalar_embed_scale", 1.0)  # Gemma's √d_model
        hidden = self._files.read_embedding_row(bos_id)[None, None] * scale
        still = (torch.ones(1, 1, width), torch.zeros(1, 1, width))  # cosines and sines of no rotation
        for number, layer in enumerate(self._modules.get_submodule("layers").children()):
            hidden, seen = self._run_layer(
                number, layer, hidden, still
            )  # the layer's tensors are let go before a yield
            yield self._keys_of(seen)

    def _run_layer(
        self, number: int, layer: nn.Module, hidden: Tensor, still: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The residual stream `[1, 1, d_model]` after one layer, and what its projection of keys gave out."""
        tensors = {name: self._files.read(f"layers.{number}.{name}") for name, _ in layer.named_parameters()}
        seen: list[Tensor] = []
        options = {"attention_mask": None, "position_embeddings": still}
        with _watched(layer.get_submodule(f"self_attn.{self._family.qkv or 'k_proj'}"), seen), torch.inference_mode():
            output = functional_call(layer, tensors, (hidden,), options, strict=True)
        return cast(Tensor, output[0] if isinstance(output, tuple) else output), seen[0].flatten()

    def _keys_of(self, projected: Tensor) -> Tensor:
        """Keys `[key groups, head_dim]` of one token in what the projection of keys, or of all three, gives out."""
        heads, groups, width = self._heads
        keys = projected[heads * width : (heads + groups) * width] if self._family.qkv else projected
        clamp = getattr(self._checkpoint.settings, "clip_qkv", None)
        return (keys if clamp is None else keys.clamp(-clamp, clamp)).view(groups, width).clone()

    def _check_attention(self) -> None:
        if self.no_attention_scores is not None:
            raise UnsupportedArchitectureError(f"{self.family}: {self.no_attention_scores}")

    @cached_property
    def _heads(self) -> tuple[int, int, int]:
        """Heads, key groups and the width of a head."""
        settings = self._checkpoint.settings
        heads: int = settings.num_attention_heads
        groups: int | None = getattr(settings, "num_key_value_heads", None)
        width: int | None = getattr(settings, "head_dim", None)
        return heads, groups or heads, width or self.d_model // heads

    @cached_property
    def _modules(self) -> nn.Module:
        """The base model without weights."""
        return skeleton(self._checkpoint).get_submodule(self._family.base)

    # Tensors

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self.n_layers:
            raise NotFoundError(f"layer {layer} does not exist", remedy=f"allowed: 0 to {self.n_layers - 1}")

    def _linear(self, path: str) -> tuple[Tensor, Tensor | None]:
        """Weight `[out, in]` and bias `[out]` of a projection; None where it has no bias."""
        bias = f"{path}.bias"
        return self._files.read(f"{path}.weight"), self._files.read(bias) if bias in self._files else None

    def _gate_and_in(self, layer: int) -> list[tuple[Tensor, Tensor | None]]:
        if self._family.fused is None:
            return [self._linear(f"layers.{layer}.mlp.{name}") for name in ("gate_proj", "up_proj")]
        return _parts(self._linear(f"layers.{layer}.mlp.{self._family.fused}"), [self.d_mlp, self.d_mlp])

    def _query_and_key(self, layer: int) -> list[tuple[Tensor, Tensor | None]]:
        path, (heads, groups, width) = f"layers.{layer}.self_attn", self._heads
        if self._family.qkv is None:
            return [self._linear(f"{path}.{name}") for name in ("q_proj", "k_proj")]
        return _parts(self._linear(f"{path}.{self._family.qkv}"), [heads * width, groups * width, groups * width])[:2]

    def _norm(self, path: str) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift `[d_model]` of a norm; None for what it does not have."""
        if self._family.norm is Norm.LAYER:
            return None, None
        scale, shift = self._linear(path)
        return (1 + scale if self._family.norm is Norm.RMS_PLUS_ONE else scale), shift


def _parts(linear: tuple[Tensor, Tensor | None], sizes: list[int]) -> list[tuple[Tensor, Tensor | None]]:
    """A fused projection taken apart, each part with memory of its own."""
    weight, bias = linear
    biases = [None] * len(sizes) if bias is None else bias.split(sizes)
    return [(part.clone(), b) for part, b in zip(weight.split(sizes), biases, strict=True)]


@contextmanager
def _watched(module: nn.Module, seen: list[Tensor]) -> Generator[None]:
    """Puts a copy of what a module gives out into `seen` while the context is open."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output.clone())

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _max_positions(settings: Any) -> int:
    """LongRoPE changes every position's angles once the longest text of a batch passes its original length."""
    ropes = cast(dict[str, Any], getattr(settings, "rope_parameters", None) or {})
    for rope in (ropes, *(value for value in ropes.values() if isinstance(value, dict))):
        if rope.get("rope_type") == "longrope":
            return int(cast(dict[str, Any], rope)["original_max_position_embeddings"])
    return int(settings.max_position_embeddings)
