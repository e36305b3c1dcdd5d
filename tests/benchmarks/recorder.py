"""What recording adds to a bare forward pass: the same batches, in turn, in one process.

    python -m tests.benchmarks.recorder                          # 8 layers, d 512, 1,376 neurons, 100,000 tokens
    python -m tests.benchmarks.recorder --device cuda --shape 7b  # OLMo-7B's shape, bfloat16, texts of 1,024 tokens

Weights are random, tokens too on a graphics card; on a processor the text is the standard library, read with the
tokenizer that ships. A model of random weights fires as often as a trained one, but evenly.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import LlamaConfig, LlamaModel

from neuronagent.index.activation import Activate, silu
from neuronagent.index.batch import Batch
from neuronagent.index.eager import EagerEngine
from neuronagent.index.kernel.cpu import CpuEngine
from neuronagent.index.recorder import LayerRecorder
from neuronagent.index.state import LayerState

SALT = "bench"


@dataclass(frozen=True)
class Shape:
    """Sizes of a random Llama, and what is read with it."""

    layers: int
    width: int
    neurons: int
    heads: int
    vocabulary: int
    tokens: int
    batch_tokens: int
    max_tokens: int
    k: int = 16


SHAPES = {
    "small": Shape(8, 512, 1376, 8, 4096, 100_000, 4096, 512),
    "tiny": Shape(5, 64, 172, 8, 512, 100_000, 4096, 256),
    "1b": Shape(16, 2048, 8192, 16, 50_304, 400_000, 32_768, 1024),
    "7b": Shape(32, 4096, 11_008, 32, 50_304, 400_000, 32_768, 1024),
}

Padded = tuple[torch.Tensor, Batch]


def random_config(shape: Shape) -> LlamaConfig:
    """Weights are scaled so that pre-activations have a spread of about 1."""
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.neurons,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=4096,
        initializer_range=shape.width**-0.5,
    )


def random_model(shape: Shape, device: str, dtype: torch.dtype) -> LlamaModel:
    """Random weights on the device, which need no room elsewhere."""
    torch.manual_seed(0)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaModel(random_config(shape)).eval()
    finally:
        torch.set_default_dtype(previous)


def library_batches(shape: Shape) -> list[Padded]:
    """Batches of the standard library as an index would read them."""
    from neuronagent.index.corpus import read_corpus
    from neuronagent.index.sources import documents
    from neuronagent.models.bridge import load_model
    from neuronagent.service.demo import MODEL

    model = load_model(str(MODEL))
    with TemporaryDirectory() as folder:
        corpus = read_corpus(
            documents("python-stdlib"), model.encode, bos_id=model.bos_id, vocab_size=model.vocab_size,
            max_tokens=shape.max_tokens, token_budget=shape.tokens, truncate=False, salt=SALT, folder=Path(folder),
        )  # fmt: skip
        made: list[Padded] = []
        for texts in corpus.batches(shape.batch_tokens):
            ids, lengths, first = corpus.padded(texts)
            batch = Batch.of(lengths, first, corpus.table().splits[texts], SALT, "cpu")
            made.append((torch.from_numpy(ids) % shape.vocabulary, batch))
    return made


def random_batches(shape: Shape, device: str) -> list[Padded]:
    """Full texts of random tokens."""
    generator = np.random.default_rng(0)
    texts = shape.batch_tokens // shape.max_tokens
    made: list[Padded] = []
    for start in range(0, shape.tokens, shape.batch_tokens):
        ids = generator.integers(1, shape.vocabulary, (texts, shape.max_tokens))
        ids[:, 0] = 0
        lengths: NDArray[np.int64] = np.full(texts, shape.max_tokens)
        first = start + np.arange(texts) * shape.max_tokens
        splits = generator.choice(3, texts, p=[0.5, 0.2, 0.3]).astype(np.int8)
        made.append((torch.from_numpy(ids).to(device), Batch.of(lengths, first, splits, SALT, device)))
    return made


def hooked(model: LlamaModel, sink: Callable[[int, torch.Tensor, torch.Tensor], None]) -> list[Any]:
    """Hooks as GatedModel sets them."""

    def pair(number: int) -> list[Any]:
        waiting: list[torch.Tensor] = []

        def on_gate(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            waiting.append(output)

        def on_in(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            sink(number, waiting.pop(), output)

        mlp = model.get_submodule(f"layers.{number}.mlp")
        return [
            mlp.get_submodule("gate_proj").register_forward_hook(on_gate),
            mlp.get_submodule("up_proj").register_forward_hook(on_in),
        ]

    return [handle for number in range(len(model.layers)) for handle in pair(number)]


class Timer:
    """Seconds of pieces of work, the device's included, and what they took of the processor's cores."""

    def __init__(self, device: str) -> None:
        self._wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
        self.seconds, self.cores = list[float](), list[float]()

    def __call__(self, work: Callable[[], object]) -> None:
        self._wait()
        started, used = time.perf_counter(), time.process_time()
        work()
        self._wait()
        self.seconds.append(time.perf_counter() - started)
        self.cores.append(time.process_time() - used)


def lean(state: LayerState, activate: Activate, name: str) -> CpuEngine:
    """The compiled pass without histograms and samples."""
    return CpuEngine(state, activate, name, "LEAN")


ENGINES: dict[str, Any] = {
    "everything": None,
    "without histograms and samples": lean,
    "plain operations": EagerEngine,
}


def measure(
    shape: Shape, device: str = "cpu", dtype: torch.dtype = torch.float32, *, engine: str = "everything"
) -> dict[str, float]:
    """Seconds of recorded and of bare passes, and their ratio: whole, in the first batch, in the last half."""
    model = random_model(shape, device, dtype)
    batches = random_batches(shape, device) if device.startswith("cuda") else library_batches(shape)
    sign = torch.ones(shape.neurons, device=device)
    recorders = [
        LayerRecorder(
            sign=sign, k=shape.k, salt=SALT, activate=silu, name=str(layer),
            engine=ENGINES[engine],
        )
        for layer in range(shape.layers)
    ]  # fmt: skip
    bare, recorded = Timer(device), Timer(device)

    def forward(ids: torch.Tensor) -> None:
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False)

    def record(ids: torch.Tensor, batch: Batch) -> None:
        handles = hooked(model, lambda layer, gate, into: recorders[layer].update(gate, into, batch))
        try:
            forward(ids)
        finally:
            for handle in handles:
                handle.remove()

    forward(batches[0][0])  # the first pass allocates
    for ids, batch in batches:
        bare(lambda ids=ids: forward(ids))
        recorded(lambda ids=ids, batch=batch: record(ids, batch))
    ratios = [r / b for r, b in zip(recorded.seconds, bare.seconds, strict=True)]
    tokens = [int(batch.lengths.sum()) for _, batch in batches]
    for recorder in recorders:
        recorder.state()  # raises if an activation was not finite
    half = len(ratios) // 2
    return {
        "tokens": sum(tokens),
        "padding": 1 - sum(tokens) / sum(ids.numel() for ids, _ in batches),
        "recorded ÷ bare, whole pass": sum(recorded.seconds) / sum(bare.seconds),
        "recorded ÷ bare, seconds of cores": sum(recorded.cores) / sum(bare.cores),
        "recorded ÷ bare, first batch": ratios[0],
        "recorded ÷ bare, later half, median": statistics.median(ratios[half:]),
        "bare tokens per second": sum(tokens) / sum(bare.seconds),
        "recorded tokens per second": sum(tokens) / sum(recorded.seconds),
        "recorded tokens per second, later half": sum(tokens[half:]) / sum(recorded.seconds[half:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--engine", choices=ENGINES, default="everything")
    chosen = parser.parse_args()
    dtype = getattr(torch, chosen.dtype or ("float32" if chosen.device == "cpu" else "bfloat16"))
    shape = SHAPES[chosen.shape]
    if chosen.tokens:
        shape = replace(shape, tokens=chosen.tokens)
    print(json.dumps(measure(shape, chosen.device, dtype, engine=chosen.engine), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
