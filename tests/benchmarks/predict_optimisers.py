"""The closed form of a map against the paper's optimiser, on the same activations in memory.

    python -m tests.benchmarks.predict_optimisers INDEX MODEL [--pairs all] [--tokens 60000]

1. *Equal tokens*: Gram matrices of the fit's tokens and of those that the ridge is chosen on, and the solution, beside
   one epoch of Adagrad over the fit's tokens as the paper trains it (learning rate 0.01, batches of 10,000 tokens).
   The mean squared error of both on tokens of the `test` split. The closed form needs the tokens of `select` and knows
   its error there; the same of Adagrad, as `predict fit` reports it, is counted in a second ratio.
2. *Equal error*: how long Adagrad needs, over as many epochs as it takes, until its error there is within 1 % of the
   closed form's. Every pair may stop on its own, at the best of several learning rates, and the looking costs nothing:
   all of it in Adagrad's favour. Where it never comes that near within `LIMIT` times the time of the closed form, that
   limit is counted, so that the total is a lower bound.

Tokens are shuffled, which is Adagrad's advantage too: the closed form does not depend on their order.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronagent.domain import Split
from neuronagent.index.predictability.adagrad import Adagrad
from neuronagent.index.predictability.gram import Grams
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.index.predictability.ridge import solve
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.predictability.scores import Pair, parse_pairs
from neuronagent.service.lookup import Index
from neuronagent.service.predict.activations import activations
from neuronagent.service.predict.texts import TokenTexts, corpus_texts

BATCH = 4096
RATES = (0.01, 0.03, 0.1)
LIMIT = 20
NEAR = 1.01

Layers = Mapping[int, Tensor]


@dataclass(frozen=True, kw_only=True)
class Data:
    """`post` `[T, N]` of every layer on the three splits."""

    fit: Layers
    select: Layers
    test: Layers


def read(model: GatedModel, index: Index, tokens: int | None) -> Data:
    """Activations of about `tokens` tokens of the `explain` split, and as large a share of the other two."""
    texts = {split: corpus_texts(index, [split]) for split in (Split.EXPLAIN, Split.SELECT, Split.TEST)}
    share = 1.0 if tokens is None else min(1.0, tokens / texts[Split.EXPLAIN].tokens)
    found = [in_memory(model, texts[split].limited(int(share * texts[split].tokens))) for split in texts]
    return Data(fit=found[0], select=found[1], test=found[2])


def in_memory(model: GatedModel, texts: TokenTexts) -> Layers:
    """`post` of all layers at all tokens, shuffled."""
    order = torch.randperm(texts.tokens, generator=torch.Generator().manual_seed(0))
    found = {layer: torch.empty(texts.tokens, model.d_mlp) for layer in range(model.n_layers)}
    start = 0
    for batch in activations(model, texts, range(model.n_layers)):
        places = order[start : start + len(batch.places)]
        for layer, post in batch.post.items():
            found[layer][places] = post
        start += len(places)
    return found


def batches(layers: Layers, wanted: Sequence[int]) -> Iterator[Layers]:
    """Views of `BATCH` tokens at a time."""
    total = len(next(iter(layers.values())))
    for start in range(0, total, BATCH):
        yield {layer: layers[layer][start : start + BATCH] for layer in wanted}


def error(found: NeuronMap, pair: Pair, layers: Layers) -> float:
    """Mean squared error over tokens and neurons."""
    total = 0.0
    for part in batches(layers, sorted({*pair})):
        total += float((found(part[pair.source]) - part[pair.target]).double().square().sum())
    return total / layers[pair.target].numel()


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds on the clock, seconds of all cores, and the result."""
    started, used = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - started, time.process_time() - used, found


def closed_form(data: Data, pairs: Sequence[Pair]) -> dict[Pair, NeuronMap]:
    """The maps of `pairs`, as `predict fit` finds them."""
    wanted = sorted({layer for pair in pairs for layer in pair})
    widths = {layer: data.fit[layer].shape[1] for layer in wanted}
    fit, select = (Grams(pairs, widths, widths, shared=True, device="cpu") for _ in range(2))
    for grams, layers in ((fit, data.fit), (select, data.select)):
        for part in batches(layers, wanted):
            grams.update(part, part)
    found: dict[Pair, NeuronMap] = {}
    for source in sorted({pair.source for pair in pairs}):
        targets = [pair.target for pair in pairs if pair.source == source]
        solved = solve(fit, select, source, targets, intercept=False)
        found |= {Pair(source, target): each.map for target, each in solved.items()}
    return found


def optimiser(data: Data, pairs: Sequence[Pair], lr: float) -> Adagrad:
    widths = {layer: post.shape[1] for layer, post in data.fit.items()}
    return Adagrad(pairs, widths, widths, lr=lr, device="cpu")


def epoch(trained: Adagrad, data: Data, pairs: Sequence[Pair]) -> dict[Pair, NeuronMap]:
    """One pass over the fit's tokens, and the maps after it."""
    for part in batches(data.fit, sorted({layer for pair in pairs for layer in pair})):
        trained.update(part, part)
    return trained.finish()


def equal_tokens(data: Data, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Errors and times of both, one after the other twice; the shorter time of each counts."""
    found = {"closed form": lambda: closed_form(data, pairs),
             "Adagrad": lambda: epoch(optimiser(data, pairs, 0.01), data, pairs)}  # fmt: skip
    clock: dict[str, float] = {}
    cores: dict[str, float] = {}
    maps: dict[str, dict[Pair, NeuronMap]] = {}
    for _ in range(2):
        for name, work in found.items():
            taken, used, maps[name] = timed(work)
            clock[name], cores[name] = min(taken, clock.get(name, taken)), min(used, cores.get(name, used))
    errors = {name: {pair: error(each[pair], pair, data.test) for pair in pairs} for name, each in maps.items()}
    on_select, cores_on_select, _ = timed(lambda: [error(maps["Adagrad"][pair], pair, data.select) for pair in pairs])
    ratios = sorted(errors["Adagrad"][pair] / errors["closed form"][pair] for pair in pairs)
    return {
        "pairs": len(pairs),
        "tokens": len(data.fit[0]),
        "pairs with the lower held-out error": sum(ratio > 1 for ratio in ratios),
        "Adagrad's error ÷ closed form's, least": ratios[0],
        "Adagrad's error ÷ closed form's, median": ratios[len(ratios) // 2],
        "closed form, s": clock["closed form"],
        "one epoch of Adagrad, s": clock["Adagrad"],
        "closed form ÷ one epoch": clock["closed form"] / clock["Adagrad"],
        "closed form ÷ one epoch, seconds of cores": cores["closed form"] / cores["Adagrad"],
        "closed form ÷ one epoch and its error on select": clock["closed form"] / (clock["Adagrad"] + on_select),
        "closed form ÷ one epoch and its error on select, seconds of cores": (
            cores["closed form"] / (cores["Adagrad"] + cores_on_select)
        ),
    }


def equal_error(data: Data, pairs: Sequence[Pair]) -> dict[str, Any]:
    """How many times the closed form's time Adagrad needs, pair by pair at its best learning rate; in seconds of all
    cores, which others' work on the machine changes less than those on the clock."""
    _, taken, maps = timed(lambda: closed_form(data, pairs))
    goal = {pair: NEAR * error(found, pair, data.test) for pair, found in maps.items()}
    share, needed = taken / len(pairs), dict.fromkeys(pairs, float("inf"))
    for rate in RATES:
        trained, spent, left = optimiser(data, pairs, rate), 0.0, set(pairs)
        while left and spent < LIMIT * taken:
            _, seconds, found = timed(lambda trained=trained: epoch(trained, data, pairs))
            spent += seconds
            for pair in [pair for pair in left if error(found[pair], pair, data.test) <= goal[pair]]:
                needed[pair] = min(needed[pair], spent / len(pairs))
                left.discard(pair)
    never = sum(seconds == float("inf") for seconds in needed.values())
    total = sum(min(seconds, LIMIT * share) for seconds in needed.values())
    return {
        "closed form again, seconds of cores": taken,
        "pairs that Adagrad never brings within 1 %": never,
        "Adagrad until within 1 %, seconds of cores" + (" (lower bound)" if never else ""): total,
        "Adagrad until within 1 % ÷ closed form" + (" (lower bound)" if never else ""): total / taken,
    }


def measure(
    db: str, folder: str, tokens: int | None = None, said: Sequence[str] = ("adjacent", "all")
) -> dict[str, Any]:
    """Both comparisons for an index of the model in `folder`; the second for the first of `said` alone."""
    model = load_model(folder, dtype="float32", device="cpu")
    with Index(db) as index:
        data = read(model, index, tokens)
    found: dict[str, Any] = {}
    for number, spec in enumerate(said):
        pairs = parse_pairs(spec, model.n_layers)
        measured = equal_tokens(data, pairs) | (equal_error(data, pairs) if number == 0 else {})
        found |= {f"{spec}: {name}": value for name, value in measured.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("model")
    parser.add_argument("--pairs", action="append")
    parser.add_argument("--tokens", type=int)
    given = parser.parse_args()
    print(json.dumps(measure(given.index, given.model, given.tokens, given.pairs or ("adjacent", "all")), indent=1,
                     ensure_ascii=False))  # fmt: skip


if __name__ == "__main__":
    main()
