"""How the embedded model was made: `python -m neuronagent.demo.train --out DIR`.

A SwiGLU Llama of about four million parameters with its own 4,096-entry byte-level BPE, trained on the sources
of Python's standard library. It exists so that the demo, the tests and the documentation run on a *trained* gated
model without a download; it is small enough for git and good enough that its neurons have jobs.

1. The sources of the running interpreter's library (its test suite too: more text, less memorising) are split by
   *file*, one in twenty held out by a hash of the path. Generated tables are left out, since they make any
   held-out loss look small.
2. The tokenizer is trained on the training files.
3. Every row is BOS and 255 consecutive tokens, the form in which the index later reads texts. AdamW, warm-up and
   cosine, bfloat16 autocast.
4. The loss on the held-out library files is measured through training and written to `training.json` beside the
   loss of an interpolated trigram model on the same tokens, which is what any model has to beat.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neuronagent.index.python_source import held_out, stdlib_files

VOCABULARY = 4096
CONTEXT = 256
BOS = "<|bos|>"


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose only special token is BOS, prepended by the tokenizer itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, clean_up_tokenization_spaces=False, model_max_length=CONTEXT
    )


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """All documents behind one another, each opened by BOS; int64 `[tokens]`."""
    encoded = tokenizer(texts, add_special_tokens=True)["input_ids"]
    return np.concatenate([np.asarray(ids, dtype=np.int64) for ids in encoded])


def rows(stream: np.ndarray, offset: int, bos_id: int) -> torch.Tensor:
    """`[rows, CONTEXT]`: BOS, then CONTEXT − 1 consecutive tokens, starting at `offset`."""
    body = CONTEXT - 1
    count = (len(stream) - offset) // body
    cut = stream[offset : offset + count * body].reshape(count, body)
    return torch.from_numpy(np.concatenate([np.full((count, 1), bos_id), cut], axis=1))


def trigram_loss(train: np.ndarray, held: np.ndarray) -> float:
    """Nats per token of an interpolated trigram model with absolute discounting (D = 0.75), add-one unigrams."""
    size, discount = VOCABULARY, 0.75

    def table(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(keys, return_counts=True)

    def look_up(keys: np.ndarray, known: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        place = np.minimum(np.searchsorted(known[0], keys), len(known[0]) - 1)
        return np.where(known[0][place] == keys, known[1][place], 0)

    def interpolate(context: np.ndarray, word: np.ndarray, of: np.ndarray, next_of: np.ndarray, lower: np.ndarray):
        grams = table(of * size + next_of)
        seen, kinds = table(of), table(grams[0] // size)
        count, total = look_up(context * size + word, grams), look_up(context, seen)
        back_off = np.where(total > 0, discount * look_up(context, kinds) / np.maximum(total, 1), 1.0)
        return np.maximum(count - discount, 0) / np.maximum(total, 1) + back_off * lower

    unigram = (np.bincount(train, minlength=size) + 1) / (len(train) + size)
    a, b, c = held[:-2], held[1:-1], held[2:]
    two = interpolate(b, c, train[:-1], train[1:], unigram[c])
    three = interpolate(a * size + b, c, train[:-2] * size + train[1:-1], train[2:], two)
    return float(-np.log(three).mean())


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, data: torch.Tensor, batch: int = 16) -> float:
    """Mean nats per token over the held-out rows, BOS as context only."""
    model.eval()
    losses: list[float] = []
    for start in range(0, len(data), batch):
        ids = data[start : start + batch]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses += [float(model(input_ids=ids, labels=ids).loss)] * len(ids)
    model.train()
    return float(np.mean(losses))


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))))


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    library, tests = stdlib_files(), stdlib_files(tests=True)
    held_texts = [file.text for file in library if held_out(file.name)]
    train_texts = [file.text for file in library + tests if not held_out(file.name)]
    tokenizer = train_tokenizer(train_texts)
    bos_id = int(tokenizer.convert_tokens_to_ids(BOS))  # pyright: ignore[reportArgumentType]
    stream, held_stream = token_stream(tokenizer, train_texts), token_stream(tokenizer, held_texts)
    held = rows(held_stream, 1, bos_id)
    baseline = trigram_loss(stream, held_stream)
    print(f"{len(stream):,} training tokens, {len(held_stream):,} held out; trigram {baseline:.3f} nats", flush=True)

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=CONTEXT, tie_word_embeddings=False, bos_token_id=bos_id,
        eos_token_id=bos_id, pad_token_id=None, attention_dropout=0.0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.lr, betas=(0.9, 0.95))
    steps = int(arguments.epochs * len(stream) / (arguments.batch * CONTEXT))
    curve: list[dict[str, Any]] = []
    started, running, order, place = time.time(), 0.0, torch.empty(0, CONTEXT, dtype=torch.int64), 0
    for step in range(steps):
        if place + arguments.batch > len(order):  # a new epoch, cut at new places so that rows differ
            data = rows(stream, int(torch.randint(CONTEXT - 1, ()).item()), bos_id)
            order, place = data[torch.randperm(len(data))], 0
        ids, place = order[place : place + arguments.batch], place + arguments.batch
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, arguments.lr)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        running += float(loss.detach())
        if (step + 1) % arguments.report == 0 or step + 1 == steps:
            span = (step % arguments.report) + 1
            curve.append(
                {"step": step + 1, "train": round(running / span, 4), "held_out": round(held_out_loss(model, held), 4)}
            )
            running = 0.0
            rate = (step + 1) * arguments.batch * CONTEXT / (time.time() - started)
            print(f"{curve[-1]} of {steps}, {rate:,.0f} tokens/s", flush=True)
            save(arguments.out, model, tokenizer, {
                "parameters": sum(p.numel() for p in model.parameters()), "python": platform.python_version(),
                "training_tokens": len(stream), "held_out_tokens": len(held_stream), "epochs": arguments.epochs,
                "batch_tokens": arguments.batch * CONTEXT, "learning_rate": arguments.lr, "steps": steps,
                "trigram_held_out_loss": round(baseline, 4), "held_out_loss": curve[-1]["held_out"], "curve": curve,
            })  # fmt: skip


def save(out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, report: dict[str, Any]) -> None:
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    model.save_pretrained(out, state_dict=weights)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}, indent=2) + "\n")
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=1.6)
    parser.add_argument("--batch", type=int, default=16, help="rows of 256 tokens")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--report", type=int, default=300, help="steps between held-out losses")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
