"""Questions about the planted model that take several calls each, with one answer that can be checked.

Each has a scripted oracle, a small program that sees nothing but the tools' answers, and a truth that is computed from
how the model was built (`planted_truth.py`), never from the tools. An assistant can be given the same questions.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mcp import Client

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from tests.known_index import known, world
from tests.mcp_server import planted_truth as truth
from tests.planted import CAPITALS, DIGITS, TOKENS

PP, PN, NP, NN = COMBINATIONS
EXPLAINED = ("0.0", "0.1", "0.2")
"""The neurons whose deterministic explanations the index of these questions holds."""


@dataclass
class Tools:
    """What an oracle may use: calls, whose text it reads; they are counted."""

    client: Client
    calls: int = 0
    characters: int = 0

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        result = await self.client.call_tool(tool, arguments)
        texts = [getattr(part, "text", "") for part in result.content]
        assert not result.is_error, texts
        self.calls += 1
        self.characters += sum(map(len, texts))
        return json.loads(texts[0])


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A question, the program that answers it from the tools alone, and what is true."""

    question: str
    solve: Callable[[Tools], Awaitable[object]] = field(repr=False)
    answer: Callable[[], object] = field(repr=False)


EVALUATIONS: list[Evaluation] = []


def evaluation(
    question: str, answer: Callable[[], object]
) -> Callable[[Callable[[Tools], Awaitable[object]]], Callable[[Tools], Awaitable[object]]]:
    """Adds a question with its truth; decorates its oracle."""

    def add(solve: Callable[[Tools], Awaitable[object]]) -> Callable[[Tools], Awaitable[object]]:
        EVALUATIONS.append(Evaluation(question=question, solve=solve, answer=answer))
        return solve

    return add


def _row(answer: dict[str, Any], c: SignCombination) -> dict[str, Any]:
    return next(row for row in answer["combinations"] if row["combination"] == c.value)


def _main(answer: dict[str, Any]) -> str:
    return max(answer["combinations"], key=lambda row: row["mass_share"])["combination"]


async def _found(ask: Tools, **criteria: Any) -> list[str]:
    return [row["neuron"] for row in (await ask("search_neurons", **criteria))["neurons"]]


@evaluation(
    "Which neuron of layer 1 is of class depletion, and which ten tokens does it suppress most where gate and in are "
    "positive?",
    lambda: (str(truth.only(truth.of_class("depletion", 1))), sorted(DIGITS)),
)
async def depletion(ask: Tools) -> object:
    (neuron,) = await _found(ask, layers=[1], io_class="depletion")
    vocab = await ask("neuron_vocab", neuron=neuron, limit=10)
    return neuron, sorted(row["token"] for row in vocab["bottom"])


@evaluation(
    "Which combinations does the neuron of class atypical enrichment never enter?",
    lambda: [
        c.value for c in COMBINATIONS if not truth.counts(truth.only(truth.of_class("atypical enrichment", 1)))[c]
    ],
)
async def never(ask: Tools) -> object:
    (neuron,) = await _found(ask, io_class="atypical enrichment")
    return [
        row["combination"] for row in (await ask("neuron_stats", neuron=neuron))["combinations"] if not row["count"]
    ]


@evaluation(
    "Which neuron of layer 0 promotes ' river' most when it writes +w_out, and in which combination is most of its "
    "output written?",
    lambda: _promoter_and_main(" river"),
)
async def river(ask: Tools) -> object:
    neuron, *_ = await _found(ask, token=" river", token_in="out_top", layers=[0])
    return neuron, _main(await ask("neuron_stats", neuron=neuron))


def _promoter(token: str) -> NeuronId:
    return truth.best(truth.neurons(0), lambda n: float(truth.logits(n)[TOKENS.index(token)]))


def _promoter_and_main(token: str) -> object:
    neuron = _promoter(token)
    return str(neuron), truth.main_combination(neuron).value


@evaluation(
    "Which neuron of layer 0 promotes ' 3' most, and at which token is it strongest in gate+_in+ (explain split)?",
    lambda: (str(_promoter(" 3")), truth.strongest_token(_promoter(" 3"), PP)),
)
async def three(ask: Tools) -> object:
    neuron, *_ = await _found(ask, token=" 3", layers=[0])
    examples = await ask("neuron_examples", neuron=neuron, combination="++", limit=1)
    return neuron, examples["examples"][0]["token"]


@evaluation(
    "Of neurons 0.0, 0.1 and 0.2, which writes the largest share of its output in gate-_in-, and which kind of token "
    "is it strongest at there?",
    lambda: _largest_share_there(),
)
async def both_negative(ask: Tools) -> object:
    shares = {n: _row(await ask("neuron_stats", neuron=n), NN)["mass_share"] for n in ("0.0", "0.1", "0.2")}
    neuron = max(shares, key=lambda n: shares[n])
    examples = await ask("neuron_examples", neuron=neuron, combination="--", limit=1)
    return neuron, examples["examples"][0]["token"]


def _largest_share_there() -> object:
    def share(n: NeuronId) -> float:
        return truth.masses(n)[NN] / sum(truth.masses(n).values())

    neuron = truth.best(truth.neurons(0)[:3], share)
    return str(neuron), truth.strongest_token(neuron, NN)


@evaluation(
    "Which neurons write exactly the opposite of what neuron 1.0 writes (cosine -1), and of which class is each?",
    lambda: {
        str(n): str(world().model.truth[n].io_class)
        for n in truth.everything()
        if truth.cosine(truth.vector("out", n), truth.vector("out", NeuronId(1, 0))) < -0.99999
    },
)
async def opposite(ask: Tools) -> object:
    listed = await ask("similar_neurons", neuron="1.0", kind="opposite", vector="out")
    exact = [neuron for neuron, cosine in listed["neighbours"]["opposite_out"] if cosine == -1]
    return {n: (await ask("neuron_weights", neuron=n))["io_class"] for n in exact}


@evaluation(
    "Two neurons have cos(in,out) = -0.5. Which of them has a gate not orthogonal to in, and what is its class?",
    lambda: _half(),
)
async def half(ask: Tools) -> object:
    pair = await _found(ask, min_cos_in_out=-0.5, max_cos_in_out=-0.5)
    assert len(pair) == 2
    weights = [await ask("neuron_weights", neuron=n) for n in pair]
    return next((w["neuron"], w["io_class"]) for w in weights if abs(w["cosines"][0]["cosine"]) > 1e-6)


def _half() -> object:
    true = world().model.truth
    found = [n for n in truth.everything() if true[n].cos_in_out == -0.5 and true[n].cos_gate_in != 0]
    return str(truth.only(found)), str(true[truth.only(found)].io_class)


@evaluation(
    "Which of the neurons 1.12 to 1.15 had the signs of in and out turned by the normalised convention?",
    lambda: [str(n) for n in truth.neurons(1)[12:] if world().model.truth[n].sign < 0],
)
async def turned(ask: Tools) -> object:
    weights = [await ask("neuron_weights", neuron=f"1.{index}") for index in range(12, 16)]
    return [w["neuron"] for w in weights if w["sign"] < 0]


@evaluation(
    "Does neuron 1.9 read anything that layer 0 writes, and does neuron 0.0 write anything that layer 1 reads?",
    lambda: (_connected(None, NeuronId(1, 9)), _connected(NeuronId(0, 0), None)),
)
async def circuit(ask: Tools) -> object:
    up = await ask("similar_neurons", neuron="1.9", kind="upstream")
    down = await ask("similar_neurons", neuron="0.0", kind="downstream")
    return any(up["neighbours"].values()), any(down["neighbours"].values())


def _connected(writer: NeuronId | None, reader: NeuronId | None) -> bool:
    writers = [writer] if writer else truth.neurons(0)
    readers = [reader] if reader else truth.neurons(1)
    return any(
        abs(truth.cosine(truth.vector("out", w), truth.vector(v, r))) > 1e-4
        for w in writers
        for r in readers
        for v in ("gate", "in")
    )


@evaluation(
    "Which layer holds neurons of more IO classes, and which class has most neurons in the whole model?",
    lambda: _classes(),
)
async def classes(ask: Tools) -> object:
    layers = [await ask("layer_summary", layer=layer) for layer in range(2)]
    totals = (await ask("model_info"))["io_classes"]
    most = max(range(2), key=lambda layer: len(layers[layer]["io_classes"]))
    return most, max(totals, key=lambda name: totals[name])


def _classes() -> object:
    by_layer = [[str(world().model.truth[n].io_class) for n in truth.neurons(layer)] for layer in range(2)]
    everyone = by_layer[0] + by_layer[1]
    return max(range(2), key=lambda layer: len(set(by_layer[layer]))), max(set(everyone), key=everyone.count)


@evaluation(
    "In which layer is the median cos(gate,in) larger, and what is it there, to two decimals?",
    lambda: max(_medians(), key=lambda pair: pair[1]),
)
async def medians(ask: Tools) -> object:
    rows = [(layer, (await ask("layer_summary", layer=layer))["cosines"][0]["median"]) for layer in range(2)]
    layer, median = max(rows, key=lambda pair: pair[1])
    return layer, round(median, 2)


def _medians() -> list[tuple[int, float]]:
    return [(layer, round(float(np.median(truth.cosines(("gate", "in"), layer))), 2)) for layer in range(2)]


@evaluation(
    "Which neuron of layer 0 writes most in all (output mass), and in which combination most of it?",
    lambda: _heaviest(),
)
async def heaviest(ask: Tools) -> object:
    summary = await ask("layer_summary", layer=0)
    neuron = summary["extremes"]["mass highest"][0][0]
    return neuron, _main(await ask("neuron_overview", neuron=neuron))


def _heaviest() -> object:
    neuron = truth.best(truth.neurons(0), lambda n: sum(truth.masses(n).values()))
    return str(neuron), truth.main_combination(neuron).value


@evaluation(
    "Which neuron is the model's partition neuron (largest variance of what it writes over the vocabulary), and how "
    "large is its cos(in,out)?",
    lambda: _partition(),
)
async def partition(ask: Tools) -> object:
    (neuron,) = await _found(ask, role="partition")
    weights = await ask("neuron_weights", neuron=neuron)
    return neuron, round(weights["cosines"][2]["cosine"], 3)


def _partition() -> object:
    unembedding = world().model.unembedding
    unembedding = unembedding - unembedding.mean(axis=0)
    lengths = np.linalg.norm(unembedding, axis=1)

    def variance(n: NeuronId) -> float:
        return float((truth.logits(n) / lengths / np.linalg.norm(truth.vector("out", n))).var())

    spread = max(variance(n) for n in truth.everything())
    neuron = next(n for n in truth.everything() if variance(n) > spread - 1e-9)  # ties go to the earlier neuron
    return str(neuron), round(world().model.truth[neuron].cos_in_out, 3)


@evaluation(
    "How many tokens of the corpus are digits, counted by the neuron of layer 0 that promotes ' apple'? Its gate+_in+ "
    "examples must all be digits.",
    lambda: (str(_promoter(" apple")), sum(t in DIGITS for text in world().texts for t in _tokens(text.token_ids))),
)
async def digits(ask: Tools) -> object:
    neuron, *_ = await _found(ask, token=" apple", layers=[0])
    examples = await ask("neuron_examples", neuron=neuron, combination="++", limit=16)
    assert all(row["token"] in DIGITS for row in examples["examples"])
    return neuron, _row(await ask("neuron_stats", neuron=neuron), PP)["count"]


def _tokens(ids: tuple[int, ...]) -> list[str]:
    return [TOKENS[i] for i in ids]


@evaluation(
    "Which of neurons 1.12 and 1.13 is at an exact zero at more tokens, and at how many?",
    lambda: max(((str(n), truth.counts(n)[None]) for n in truth.neurons(1)[12:14]), key=lambda pair: pair[1]),
)
async def zeros(ask: Tools) -> object:
    found = [(n, (await ask("neuron_stats", neuron=n))["zeros"]) for n in ("1.12", "1.13")]
    return max(found, key=lambda pair: pair[1])


@evaluation(
    "How many neurons of layer 0 and of layer 1 are in gate-_in- at more than half of all tokens?",
    lambda: [sum(truth.frequency(n, NN) > 0.5 for n in truth.neurons(layer)) for layer in range(2)],
)
async def mostly_silent(ask: Tools) -> object:
    arguments: dict[str, Any] = {"combination": "--", "min_frequency": 0.5, "limit": 1}
    return [(await ask("search_neurons", layers=[layer], **arguments))["total"] for layer in range(2)]


@evaluation(
    "A stored explanation mentions 'not' as its trigger. Of which neuron and combination is it, is it supported, and "
    "at what share of tokens is the neuron in that combination?",
    lambda: ("0.1", PP.value, "supported", round(truth.frequency(NeuronId(0, 1), PP), 3)),
)
async def explained(ask: Tools) -> object:
    (neuron,) = await _found(ask, explanation="` not`")
    said = await ask("neuron_explanations", neuron=neuron)
    row = next(row for row in said["explanations"] if "` not`" in row["text"])
    stats = _row(await ask("neuron_stats", neuron=neuron), SignCombination.parse(row["combination"]))
    return neuron, row["combination"], row["verdict"], round(stats["frequency"], 3)


@evaluation(
    "Is the stored explanation of neuron 0.0 in gate+_in+ right about its trigger? Count how many of its 16 strongest "
    "explain-split examples are digits, and give the verdict on the explanation.",
    lambda: (16, "supported"),
)
async def audited(ask: Tools) -> object:
    said = await ask("neuron_explanations", neuron="0.0", combination="++")
    first = await ask("neuron_examples", neuron="0.0", combination="++", limit=10)
    second = await ask("neuron_examples", neuron="0.0", combination="++", limit=10, cursor=first["next_cursor"])
    rows = first["examples"] + second["examples"]
    return sum(row["token"] in DIGITS for row in rows), said["explanations"][0]["verdict"]


@evaluation(
    "Neuron 0.3 is decided by context: of its ten strongest explain-split examples in gate+_in+ and in gate+_in-, how "
    "many are capitalised words?",
    lambda: [10 * _all_capitals(NeuronId(0, 3), c) for c in (PP, PN)],
)
async def contextual(ask: Tools) -> object:
    pages = [await ask("neuron_examples", neuron="0.3", combination=c, limit=10) for c in ("++", "+-")]
    return [sum(row["token"] in CAPITALS for row in page["examples"]) for page in pages]


def _all_capitals(neuron: NeuronId, c: SignCombination) -> bool:
    held = known(neuron)
    return all(TOKENS[token] in CAPITALS for token in held.token[held.combination == c.position].tolist())


@evaluation(
    "Which neuron of layer 1 detects what neuron 1.0 detects with its in vector (cosine 1) and is of class depletion?",
    lambda: next(
        str(n)
        for n in truth.of_class("depletion", 1)
        if truth.cosine(truth.vector("in", n), truth.vector("in", NeuronId(1, 0))) > 0.99999
    ),
)
async def counterpart(ask: Tools) -> object:
    listed = await ask("similar_neurons", neuron="1.0", kind="similar", vector="in")
    same = {neuron for neuron, cosine in listed["neighbours"]["similar_in"] if cosine == 1}
    (neuron,) = same & set(await _found(ask, io_class="depletion", layers=[1]))
    return neuron


@evaluation(
    "Of the ten tokens that the neuron of class conditional depletion promotes most in gate+_in-, which does the "
    "neuron of class conditional enrichment whose gate and in are orthogonal suppress there, among its ten?",
    lambda: _opposed_tokens(),
)
async def opposed(ask: Tools) -> object:
    (first,) = await _found(ask, io_class="conditional depletion")
    rows = (await ask("search_neurons", io_class="conditional enrichment"))["neurons"]
    second = next(row["neuron"] for row in rows if abs(row["cos_gate_in"]) < 1e-6)
    promoted = (await ask("neuron_vocab", neuron=first, limit=10))["bottom"]
    suppressed = (await ask("neuron_vocab", neuron=second, limit=10))["top"]
    return sorted({row["token"] for row in promoted} & {row["token"] for row in suppressed})


def _opposed_tokens() -> object:
    first = truth.only(truth.of_class("conditional depletion", 1))
    enriching = truth.of_class("conditional enrichment", 1)
    second = truth.only([n for n in enriching if world().model.truth[n].cos_gate_in == 0])
    lowest, highest = np.argsort(truth.logits(first))[:10], np.argsort(truth.logits(second))[-10:]
    return sorted({TOKENS[i] for i in lowest.tolist()} & {TOKENS[i] for i in highest.tolist()})
