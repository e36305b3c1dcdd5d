"""A loaded model: its weights, and activations from Hugging Face's own modules.

Activations are those of the loaded model itself, in its dtype; processed weights (`weights.py`) come from the file and
never produce any. The sign convention is applied by whoever stores numbers, not here.

A *change* replaces `post` on its way to the out projection, and nothing else: gate and in stay what they are. Later
layers see what the changed neurons wrote, so that x_gate and x_in there are those of the changed model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
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

Change = Callable[[Tensor, Tensor, Tensor, int], Tensor | None]
"""Called with (post, x_gate, x_in, first) of a layer, `[texts, tokens, neurons]` each; `first` is the position of the
first token (above 0 only where a text is continued token by token). Returns what is written in place of `post`, a
tensor of its own, or None for no change."""
Changes = Mapping[int, Change]
"""Changes by layer."""

Written = Callable[[int, Tensor], None]
"""Receives (layer, what its MLP adds to the residual stream), `[texts, tokens, d_model]`."""


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
        self._check_length(token_ids.shape[1])
        with self._hooked(range(self.n_layers), sink), torch.inference_mode():
            self._base(input_ids=token_ids.to(self.device), use_cache=False)

    def run(self, token_ids: Tensor, *, changes: Changes | None = None, sink: Sink | None = None) -> Tensor:
        """One forward pass with `changes`; `token_ids` and `sink` as for `record`. Returns the final residual stream
        after the last norm, `[texts, tokens, d_model]`, which `logits` turns into logits.

        Raises:
            ModelError: more tokens than `max_positions`.
        """
        self._check_length(token_ids.shape[1])
        layers = range(self.n_layers) if sink is not None else ()
        with ExitStack() as stack:
            stack.enter_context(self._hooked(layers, sink or _nowhere))
            stack.enter_context(self._changed(changes or {}))
            stack.enter_context(torch.inference_mode())
            return self._base(input_ids=token_ids.to(self.device), use_cache=False).last_hidden_state

    def residual(
        self, token_ids: Tensor, *, changes: Changes | None = None, layers: Iterable[int] = (),
        written: Written | None = None,
    ) -> Tensor:  # fmt: skip
        """As `run`, but the final residual stream before the last norm, which `normed` applies. `written` is called
        with what the MLP of each of `layers` adds to the stream, after the norm behind it where the family has one.

        Raises:
            ModelError: more tokens than `max_positions`.
        """
        self._check_length(token_ids.shape[1])
        seen: list[Tensor] = []
        with ExitStack() as stack:
            norm = self._base.get_submodule("norm")
            stack.enter_context(_removed(norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))))
            if written is not None:
                for layer in layers:
                    stack.enter_context(_removed(self._on_write(layer, written)))
            stack.enter_context(self._changed(changes or {}))
            stack.enter_context(torch.inference_mode())
            self._base(input_ids=token_ids.to(self.device), use_cache=False)
        return seen.pop()

    def normed(self, residual: Tensor) -> Tensor:
        """The last norm of a final residual stream as `residual` returns it: what `run` returns."""
        with torch.inference_mode():
            return self._base.get_submodule("norm")(residual)

    def logits(self, final: Tensor) -> Tensor:
        """The model's own logits `[…, vocabulary]` for `final` `[…, d_model]` as `run` returns it, soft-cap included.

        A whole text's logits may be large: 1,024 tokens × 256,000 ids are a gigabyte in float32.
        """
        with torch.inference_mode():
            found = cast(Any, self._live).get_output_embeddings()(final)
            cap = getattr(self._checkpoint.settings, "final_logit_softcapping", None)
            return found if cap is None else torch.tanh(found / cap) * cap

    def continuation(
        self, token_ids: Tensor, new_tokens: int, *, changes: Changes | None = None, temperature: float = 0.0,
        seed: int = 0,
    ) -> list[int]:  # fmt: skip
        """At most `new_tokens` ids that the model writes after the one text `token_ids` `[1, tokens]`, with `changes`
        at every token that it reads, its own included; it stops after an end-of-text token. `temperature` 0 takes the
        most likely token; above, tokens are drawn with `seed`. Nothing else of a checkpoint's generation settings
        (penalties, top-k, minimum lengths, banned words) is applied, and torch's own random numbers are left alone.

        Raises:
            ModelError: text and continuation have more tokens than `max_positions`, or logits are not finite.
        """
        self._check_length(token_ids.shape[1] + new_tokens)
        generator, ends = torch.Generator().manual_seed(seed), self.end_ids
        unread, cache = token_ids.to(self.device), None
        written: list[int] = []
        with self._changed(changes or {}), torch.inference_mode():
            while len(written) < new_tokens and not (written and written[-1] in ends):
                read = self._base(input_ids=unread, past_key_values=cache, use_cache=True)
                cache = read.past_key_values
                written.append(self._chosen(self.logits(read.last_hidden_state[0, -1]), temperature, generator))
                unread = torch.tensor([[written[-1]]], device=self.device)
        return written

    def _chosen(self, logits: Tensor, temperature: float, generator: torch.Generator) -> int:
        """The next token by its logits `[vocabulary]`."""
        on_cpu = logits.float().cpu()  # so that a seed means the same on every device
        if not on_cpu.isfinite().all():
            raise ModelError(f"the logits of {self.name} are not finite here", remedy="change less")
        if temperature <= 0:
            return int(on_cpu.argmax())
        scaled = ((on_cpu - on_cpu.max()).double() / temperature).softmax(-1)
        return int(torch.multinomial(scaled, 1, generator=generator))

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens after which a text ends, as the checkpoint says."""
        said = getattr(self._live.generation_config, "eos_token_id", None)
        return frozenset(() if said is None else said if isinstance(said, list) else [said])

    def _check_length(self, tokens: int) -> None:
        if tokens > self.max_positions:
            raise ModelError(f"{tokens} tokens are more than the {self.max_positions} that {self.name} reads")

    @contextmanager
    def _hooked(self, layers: Iterable[int], sink: Sink) -> Generator[None]:
        handles = [handle for layer in layers for handle in self._hook(layer, sink)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _changed(self, changes: Changes) -> Generator[None]:
        """Inside, `post` of the layers of `changes` is what they return."""
        handles: list[Any] = []
        try:
            for layer, change in changes.items():
                handles += self._change(layer, change)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _change(self, layer: int, change: Change) -> list[Any]:
        seen: list[tuple[Tensor, Tensor]] = []
        first = 0

        def keep(_layer: int, x_gate: Tensor, x_in: Tensor) -> None:
            seen.append((x_gate, x_in))

        def on_out(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            nonlocal first
            post, (x_gate, x_in) = inputs[0], seen.pop()
            changed = change(post, x_gate, x_in, first)
            first += post.shape[1]
            return None if changed is None else (changed, *inputs[1:])

        out = self._projection(layer, "down_proj").register_forward_pre_hook(on_out)
        return [*self._hook(layer, keep), out]

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

    def _on_write(self, layer: int, written: Written) -> Any:
        """A hook on what is added to the residual stream after the MLP of `layer`."""

        def on_output(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            written(layer, output)

        return self._layers[layer].get_submodule(self._family.post_norm or "mlp").register_forward_hook(on_output)

    def _projection(self, layer: int, name: str) -> nn.Linear:
        return cast(nn.Linear, self._layers[layer].get_submodule("mlp").get_submodule(name))


def _nowhere(_layer: int, _x_gate: Tensor, _x_in: Tensor) -> None:
    """A sink for nothing."""


@contextmanager
def _removed(handle: Any) -> Generator[None]:
    """Inside, a hook is there."""
    try:
        yield
    finally:
        handle.remove()
