"""A loaded model: its weights, and activations from Hugging Face's own modules.

Activations are those of the loaded model itself, in its dtype; processed weights (`weights.py`) come from the file and
never produce any. The sign convention is applied by whoever stores numbers, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neuronagent.errors import ModelError, UnsupportedArchitectureError
from neuronagent.models.checkpoint import Checkpoint, open_tokenizer, open_weights, quiet
from neuronagent.models.weights import ModelWeights

Sink = Callable[[int, Tensor, Tensor], None]
"""Receives (layer, x_gate, x_in), both `[texts, tokens, neurons]`."""


class GatedModel(ModelWeights):
    """A loaded model. `dtype` and `device` are those of the loaded tensors and of the activations."""

    def __init__(
        self, checkpoint: Checkpoint, live: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, backend: Tokenizer
    ) -> None:
        super().__init__(checkpoint, tokenizer, backend)
        self._live = live
        self._base = live.get_submodule(self._family.base)
        self._layers = list(self._base.get_submodule("layers").children())
        embedding = cast(Tensor, self._base.get_submodule("embed_tokens").weight)
        self.device: torch.device = embedding.device
        self.dtype = str(embedding.dtype).removeprefix("torch.")
        self._bridge: Any = None

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

            checkpoint, dtype = self._checkpoint, getattr(torch, self.dtype)
            live = open_weights(checkpoint, dtype=dtype, device=self.device, attention="eager")
            tokenizer, _ = open_tokenizer(checkpoint)
            with quiet():
                self._bridge = TransformerBridge.boot_transformers(
                    str(checkpoint.folder), hf_model=live, tokenizer=tokenizer, dtype=dtype, device=self.device
                )
        return self._bridge

    def layer_device(self, layer: int) -> torch.device:
        """Where the activations of `layer` are computed; not everywhere the same if the model is spread."""
        down = self._projection(layer, "down_proj")
        hook = getattr(down, "_hf_hook", None)  # accelerate's, which brings offloaded weights where they are needed
        place = getattr(hook, "execution_device", None)
        return down.weight.device if place is None else torch.device(place)

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

    def _projection(self, layer: int, name: str) -> nn.Linear:
        return cast(nn.Linear, self._layers[layer].get_submodule("mlp").get_submodule(name))
