"""A whole build against bare forward passes over the same batches, in one process.

    python -m tests.benchmarks.end_to_end                     # the random model of recorder.py's shape "small"
    python -m tests.benchmarks.end_to_end --model DIR --text FILE

`recording` is the time without loading the model and without the final write: reading the text, the recorded pass,
checkpoints. `end to end` adds weights, neighbours, sorting and the database.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from neuronagent.index.corpus import read_corpus
from neuronagent.index.sources import documents
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.service.build import build_index
from neuronagent.service.demo import MODEL
from neuronagent.service.options import BuildOptions
from tests.benchmarks.recorder import SALT, SHAPES, Shape, random_config


def random_checkpoint(shape: Shape, folder: Path) -> Path:
    """A random Llama with the tokenizer that ships, as a folder of Hugging Face's."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(random_config(shape)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / name, folder / name)
    return folder


def bare_seconds(model: GatedModel, text: str, max_tokens: int, options: BuildOptions, folder: Path) -> float:
    """A forward pass without the LM head over the batches of the build."""
    corpus = read_corpus(
        documents(text), model.encode, bos_id=model.bos_id, vocab_size=model.vocab_size, max_tokens=max_tokens,
        token_budget=options.token_budget, truncate=False, salt=SALT, folder=folder,
    )  # fmt: skip
    batches = [torch.from_numpy(corpus.padded(texts)[0]) for texts in corpus.batches(options.tokens_per_batch)]
    base = model.live.get_submodule("model")
    with torch.inference_mode():
        base(input_ids=batches[0], use_cache=False)
        started = time.perf_counter()
        for ids in batches:
            base(input_ids=ids, use_cache=False)
    return time.perf_counter() - started


def measure(model_folder: Path, text: str, max_tokens: int, token_budget: int | None = None) -> dict[str, float]:
    """Bare passes before and after a build, and the build's stages."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        options = BuildOptions(
            model=str(model_folder), text=text, db=str(folder / "index.db"), salt=SALT, max_tokens=max_tokens,
            token_budget=token_budget, device="cpu", dtype="float32", truncate=False,
        )  # fmt: skip
        model = load_model(str(model_folder), dtype="float32", device="cpu")
        first = bare_seconds(model, text, max_tokens, options, folder / "a")
        started = time.perf_counter()
        built = build_index(options)
        whole = time.perf_counter() - started
        again = bare_seconds(model, text, max_tokens, replace(options, db="-"), folder / "b")
        size = (folder / "index.db").stat().st_size
    bare = (first + again) / 2
    recording = built.seconds["corpus"] + built.seconds["pass"]
    return {
        "tokens": built.tokens,
        "bare seconds, before": first,
        "bare seconds, after": again,
        "recording ÷ bare": recording / bare,
        "end to end ÷ bare": whole / bare,
        "bytes per neuron": size / (model.n_layers * model.d_mlp),
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        **{f"seconds, {stage}": seconds for stage, seconds in built.seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--text", default="python-stdlib")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--max-tokens", type=int, default=512)
    chosen = parser.parse_args()
    if chosen.model:
        result = measure(chosen.model, chosen.text, chosen.max_tokens)
    else:
        with TemporaryDirectory() as folder:
            shape = SHAPES[chosen.shape]
            checkpoint = random_checkpoint(shape, Path(folder) / "model")
            result = measure(checkpoint, chosen.text, shape.max_tokens, shape.tokens)
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
