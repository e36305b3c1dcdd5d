"""How long `index --weights-only` takes beside what it cannot do without, and how much memory it needs.

`python -m tests.benchmarks.weights_pass [--width 4096 --neurons 11008 --layers 2 --vocabulary 50304]`

The floor is reading every tensor of the file once and the bare matrix products: gate, in and out of every neuron with
W_U and with W_E, in float32. Pass and floor are measured in turn in one run. Memory is the peak of a process of its
own: of all layers that a model has, one at a time is in memory, so that a few layers show what many need.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from neuronagent.service.options import BuildOptions
from neuronagent.service.weights_only import build_weights_index

_ROWS = 1024
_PRODUCTS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a random Llama."""

    width: int = 1024
    layers: int = 4
    neurons: int = 2816
    vocabulary: int = 32_000
    dtype: torch.dtype = torch.bfloat16


def make_checkpoint(folder: Path, shape: Shape) -> Path:
    """A complete model folder with random weights and as many tokens as rows of the embedding."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.neurons,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64,
        num_key_value_heads=shape.width // 64,
        tie_word_embeddings=False,
    )
    config.save_pretrained(str(folder))
    _tokenizer(shape.vocabulary).save_pretrained(str(folder))
    torch.manual_seed(0)
    d, n, v = shape.width, shape.neurons, shape.vocabulary
    tensors = {name: torch.randn(v, d).mul_(0.02) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    tensors["model.norm.weight"] = 1 + 0.1 * torch.randn(d)
    for layer in range(shape.layers):
        path = f"model.layers.{layer}"
        sizes = {"mlp.gate_proj": (n, d), "mlp.up_proj": (n, d), "mlp.down_proj": (d, n)}
        sizes |= {f"self_attn.{name}_proj": (d, d) for name in "qkvo"}
        tensors |= {f"{path}.{name}.weight": torch.randn(size).mul_(d**-0.5) for name, size in sizes.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{path}.{norm}.weight"] = 1 + 0.1 * torch.randn(d)
        tensors = {name: tensor.to(shape.dtype) for name, tensor in tensors.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


def _tokenizer(size: int) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "</s>", *alphabet]
    pieces += [f"{alphabet[i % 256]}{alphabet[i // 256 % 256]}t{i}" for i in range(size - len(pieces))]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def floor(folder: Path, shape: Shape) -> None:
    """Read the file once and multiply the matrices, keeping nothing."""
    out = torch.empty(_ROWS, shape.vocabulary)
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        matrices = [file.get_tensor(name).float() for name in ("lm_head.weight", "model.embed_tokens.weight")]
        for layer in range(shape.layers):
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                file.get_tensor(f"model.layers.{layer}.self_attn.{name}.weight").float()
            for name in _PRODUCTS:
                rows = file.get_tensor(f"model.layers.{layer}.mlp.{name}.weight").float()
                for block in (rows.T.contiguous() if name == "down_proj" else rows).split(_ROWS):
                    for matrix in matrices:
                        torch.mm(block, matrix.T, out=out[: len(block)])


def weights_only(folder: Path, db: Path) -> None:
    """The whole pass, functional roles and database included; neighbours have a benchmark of their own."""
    db.unlink(missing_ok=True)
    build_weights_index(BuildOptions(model=str(folder), text="", db=str(db), device="cpu", neighbours="off"))


def peak_memory(folder: Path, db: Path) -> float:
    """GiB that a process needs at most for the pass."""
    command = [sys.executable, "-m", "tests.benchmarks.weights_pass", "--peak-of", str(folder), str(db)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[-1])


def measure(shape: Shape, runs: int = 3) -> dict[str, Any]:
    """Seconds of pass and floor (medians), their ratio, and peak memory in GiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = make_checkpoint(Path(name), shape)
        db = folder / "weights.db"
        memory = peak_memory(folder, db)
        least: list[_Taken] = []
        whole: list[_Taken] = []
        for _ in range(runs):
            least.append(_taken(lambda: floor(folder, shape)))
            whole.append(_taken(lambda: weights_only(folder, db)))
        ratios = [w.wall / f.wall for w, f in zip(whole, least, strict=True)]
        busy = [w.processor / f.processor for w, f in zip(whole, least, strict=True)]
        return {
            "shape": f"{shape.layers} layers, d {shape.width}, {shape.neurons} neurons, {shape.vocabulary} tokens",
            "pass, s": statistics.median(taken.wall for taken in whole),
            "floor, s": statistics.median(taken.wall for taken in least),
            "pass ÷ floor": statistics.median(ratios),
            "lowest and highest": [min(ratios), max(ratios)],
            "pass ÷ floor, processor time": statistics.median(busy),
            "peak memory, GiB": memory,
            "database, bytes per neuron": db.stat().st_size / (shape.layers * shape.neurons),
        }


@dataclass(frozen=True)
class _Taken:
    """Seconds by the clock, and of all cores together: where others use the machine only the latter means much."""

    wall: float
    processor: float


def _taken(work: Callable[[], object]) -> _Taken:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return _Taken(time.perf_counter() - wall, time.process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description="Weights-only pass beside reading and bare products.")
    for name in ("width", "layers", "neurons", "vocabulary"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape, name))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peak-of", nargs=2, metavar=("MODEL", "DB"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        weights_only(*(Path(path) for path in given.peak_of))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    sizes = {name: getattr(given, name) for name in ("width", "layers", "neurons", "vocabulary")}
    print(json.dumps(measure(Shape(**sizes), given.runs), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
