"""Contents of neuron pages made by hand: what is common, what is missing, and what wants to do harm."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from neuronagent.domain import COMBINATIONS, SignCombination
from neuronagent.predictability.view import Direction, PredictabilityView, PredictorView
from neuronagent.report.content import (
    ControlRow,
    Histogram,
    NeighbourRow,
    NeuronContent,
    PageCombination,
    PageExample,
    PageExplanation,
    Projection,
    Provenance,
    ScoreRow,
    Statistic,
    Token,
)

ATTACKS = (
    "<script>document.title='owned'</script><img src=x onerror=document.title='owned'></style></pre>"
    "\"'`{{ 7*7 }}{% raw %}&lt;\u202e\u2066\u200b\x00\x1b[31m\ud800\ufeff"
)
"""What a hostile corpus, model or person would write: markup, template syntax, what turns the direction of writing,
what cannot be seen, and what no file can hold."""
STRANGE = (
    "\n", "\t", " ", "", "    ", "\n                ", "\r\n", "\u200b", "\u200d", "\u202e", "\x00", "\x1b[31m", "\xa0",
    "<script>alert(1)</script>", "</style>", "&amp;", "{{ 7*7 }}", '"', "'", "שלום", " مرحبا", "👩‍👩‍👧‍👦", "🏳️‍🌈",
    "\ud83d", "\\xe2", "漢字", "e\u0301", "\U000e0041", "\u2028", "\ufeff", "⏎",
)  # fmt: skip
"""Tokens as tokenizers have them, and some that only somebody who means harm would put into a corpus."""
_PASSAGES = (
    ("We are experiencing technical difficulties at the moment. Please", " try", " again later, or write to the desk."),
    ("He was last seen jumping off the roof of his Los Angeles apartment building", ".", " Meanwhile, the police said"),
    ("In the second act the two are quarrelling when, by pure chance, Isaac runs into", " her", " again at the ball"),
    ("def read(self):\n        data = self", ".", "buffer.read()\n        if not data:\n            return self"),
)
_REST = (
    "It had rained for days, and nobody had expected the river to stay within its banks. The mayor spoke of a lesson; "
    "others spoke of luck.\n\nBy noon the road was open again, and the first lorries came with sand and with bread.\n"
)


def sample() -> NeuronContent:
    """A neuron of a computed index: explanations with several verdicts and none, strange tokens, values missing in
    places, and a combination without any token."""
    return {
        "schema_version": 1,
        "kind": "neuron page",
        "neuron": "31.9634",
        "imported": False,
        "io_class": "depletion",
        "role": "suppression",
        "role_facts": {
            "role": "suppression", "attention_score": -0.12, "attention_head": 3, "entropy_share": 0.08,
            "double_checking": 0.31, "double_checking_token": " again", "double_checks": False,
        },
        "meaning": "gate and in point the same way (cos +0.72); out points the opposite way to in (cos −0.85) and the "
        "opposite way to gate (cos −0.72): what it detects, it takes away",
        "summary": [
            "In gate+ in− (68.2 % of its output) it fires at clause ends, before a connective, and demotes ` again`.",
            "In gate− in− (18.6 % of its output) it fires where ` again` is about to come and promotes it.",
        ],
        "geometry": {
            "cos_gate_in": 0.7214, "cos_gate_out": -0.7190, "cos_in_out": -0.8523,
            "norm_gate": 1.8812, "norm_in": 1.4302, "norm_out": 1.2219,
        },
        "baselines": {
            "cos_gate_in": {"lo": -0.061, "hi": 0.061},
            "cos_gate_out": {"lo": -0.058, "hi": 0.058},
            "cos_in_out": {"lo": -0.044, "hi": 0.049},
        },
        "plane": {"neurons": 11008, "layer": [_dot(i) for i in range(1500)]},
        "vocabulary": {
            "gate": _projection(" again", "minus again"), "in": _projection(" again", " not"),
            "out": _projection("otherwise", " again"),
        },
        "vocabulary_embedding": {
            "gate": _projection("re", " never"), "in": _projection("re", " once"), "out": _projection("not", " re"),
        },
        "neighbours": _neighbours(),
        "no_neighbours": None,
        "predictability": foretold(),
        "no_predictability": None,
        "tokens": 20_000_000,
        "zeros": 12,
        "first_values": (-1.25, 3.5, -0.2786, -0.9751),
        "combinations": [_strong(), _unclear(), _unexplained(), _empty()],
        "told_apart": {
            "available": True, "metric": "which of the k explanations fits a window best, mean recall",
            "value": 0.875, "lo": 0.71, "hi": 0.965, "chance": 0.5, "windows": 32, "split": "test",
            "confusion": {
                "gate+_in+": {"gate+_in+": 0.94, "gate+_in-": 0.06}, "gate+_in-": {"gate+_in+": 0.19, "gate+_in-": 0.81}
            },
            "judge": "Qwen3-8B", "judge_fit": True, "not_told_apart": [["gate+_in+", "gate+_in-"]],
        },
        "hypotheses": {"confirmed": 2, "rejected": 1, "open": 1},
        "examples_of": "the strongest |post| of each combination, of all splits",
        "values": {"examples": 9, "complete": 8, "command": "neuronagent report 31.9634 --out DIR", "note": None},
        "provenance": _provenance(),
    }  # fmt: skip


def foretold() -> PredictabilityView:
    """A neuron that two layers, the token and the position foretell, well and worse than its mean."""
    rows = [
        predictor("layer 28", 28, "earlier", 0.41), predictor("layer 30", 30, "previous", 0.62),
        predictor("mean", None, "mean", -0.0002, pearson=None), predictor("token", None, "token", 0.12, lift=None),
        predictor("previous token", None, "previous token", 0.03), predictor("position", None, "position", -0.07),
    ]  # fmt: skip
    return {
        "available": True, "reason": None, "fit": "default", "fits": ["default", "even"], "kind": "least squares",
        "text": "books", "scored_on": "test documents of books", "tokens": 69_123, "documents": 19,
        "headline": rows[1], "no_headline": None, "token": rows[3], "predictors": rows, "mean": -0.01, "variance": 0.04,
        "rank": {"neurons": 11_008, "above": 0.8412},
        "other_texts": [{
            "text": "stories", "tokens": 5_000, "documents": 40, "r2": 0.44, "r2_lo": 0.4, "r2_hi": 0.48, "rmse": 0.2,
            "reason": None,
        }],
        "background": {"is_background": True, "rmse": 0.123, "threshold": 0.34, "r2_above": True},
        "sensitive": ["2-gram ` once again` (μ 0.31)", "hard tokens"],
        "sentence": "Layer 30 foretells 62 % of its variance on held-out text (R² .62 [.58–.66], r .79); its token "
        "alone 12 %: mostly context. A background neuron: a smaller error (RMSE 0.12) than those that random tokens "
        "select (0.34), and a higher R².",
    }  # fmt: skip


def predictor(
    name: str, source: int | None, direction: Direction, r2: float | None, *, width: float | None = 0.04, **more: Any
) -> PredictorView:
    """A predictor with this R², an interval of ± `width`, and the rest made up."""
    limits = (None, None) if r2 is None or width is None else (r2 - width, r2 + width)
    made: dict[str, Any] = {
        "predictor": name, "source": source, "direction": direction, "r2": r2, "r2_lo": limits[0], "r2_hi": limits[1],
        "pearson": 0.79, "pearson_lo": 0.75, "pearson_hi": 0.83, "rmse": 0.123, "rmse_lo": 0.11, "rmse_hi": 0.14,
        "lift": 0.5, "lift_lo": 0.46, "lift_hi": 0.54, "reason": None,
    }  # fmt: skip
    return cast(PredictorView, made | more)


def imported_sample() -> NeuronContent:
    """A neuron whose numbers somebody published: no geometry, no vocabulary, no histogram; one text has no position."""
    content = sample()
    for combination in content["combinations"]:
        combination["promotes"], combination["suppresses"] = [], []
        combination["histogram"], combination["mass_share"], combination["count"] = None, None, None
    adrift = content["combinations"][0]["examples"][-1]
    adrift["position"], adrift["document"] = None, None
    for key in ("io_class", "role", "role_facts", "meaning", "geometry", "baselines", "plane", "vocabulary"):
        cast(dict[str, Any], content)[key] = None
    content["vocabulary_embedding"], content["neighbours"] = None, None
    content["no_neighbours"] = "the publisher gives no weights"
    content["predictability"], content["no_predictability"] = None, "the publisher gives no weights"
    content["tokens"] = content["zeros"] = content["first_values"] = None
    content["imported"], content["kind"] = True, "imported neuron page"
    content["provenance"] = {
        **_provenance(),
        "tokens": None, "weights_hash": None, "dtype": None, "revision": None, "protocols": ["imported-v1"],
        "published": {
            "kind": "gluscope", "source": "https://example.org/neurons", "licence": "not stated",
            "published": ["frequency", "statistics", "examples"], "absent": ["geometry", "vocabulary", "histogram"],
        },
    }  # fmt: skip
    return content


def big(text: str = _REST) -> NeuronContent:
    """As much as a page ever shows: 4 × 8 examples of 48 tokens, all with values, and 4 kB of text round each."""
    content = sample()
    for place, combination in enumerate(content["combinations"]):
        made = (COMBINATIONS[place], text * (2000 // len(text) + 1))
        combination["examples"] = [_full(*made, number) for number in range(8)]
        combination["no_examples"] = None
        combination["histogram"] = _histogram(1000)
        combination["explanation"], combination["reason"] = (said := _explanation("supported")), None
        said["scores"], said["controls"] = said["scores"] * 3, said["controls"] * 3
    content["values"] = {"examples": 32, "complete": 32, "command": None, "note": None}
    return content


def bare() -> NeuronContent:
    """A neuron of an index of weights alone: nothing was run."""
    content = sample()
    for c in content["combinations"]:
        c["count"], c["frequency"], c["mass_share"], c["histogram"], c["statistics"] = None, None, None, None, {}
        c["examples"], c["no_examples"] = [], "the index holds weights alone: no text was run"
        c["explanation"], c["reason"] = None, "the index holds weights alone"
    content["tokens"], content["zeros"], content["first_values"], content["summary"] = None, None, None, []
    content["told_apart"] = {"available": False, "reason": "fewer than two combinations have an explanation"}
    content["hypotheses"], content["neighbours"], content["role"] = {}, None, None
    content["no_neighbours"] = "this index was made without neighbours"
    content["predictability"], content["no_predictability"] = None, "no maps are fitted: `neuronagent predict fit`"
    content["values"] = {"examples": 0, "complete": 0, "command": None, "note": None}
    content["provenance"] = {**_provenance(), "corpus": None, "tokens": None, "protocols": []}
    return content


def hostile(content: NeuronContent | None = None, suffix: str = ATTACKS) -> NeuronContent:
    """Every text of a page that somebody else may have written, followed by `suffix`."""
    fixed = {"neuron", "name", "io_class", "role", "verdict", "split", "kind", "fingerprint", "sign_convention"}
    fixed.add("direction")
    names = {c.value for c in COMBINATIONS}

    def poisoned(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {k: poisoned(v, str(k)) for k, v in cast(dict[str, Any], value).items()}
        if isinstance(value, list | tuple):
            kept = cast(Sequence[Any], value)
            return type(value)(poisoned(v, key) for v in kept)  # pyright: ignore[reportCallIssue]
        return value + suffix if isinstance(value, str) and key not in fixed and value not in names else value

    return cast(NeuronContent, poisoned(content or sample(), ""))


def tokens_of(text: str) -> list[str]:
    """Something like a tokenizer's pieces of `text`; joined they are `text`."""
    return re.findall(r"\n *| ?\w+| ?[^\w\s]|\s", text)


def example(
    combination: SignCombination,
    passage: tuple[str, str, str],
    *,
    peak: float = 5.12,
    values: bool = True,
    **changed: Any,
) -> PageExample:
    """An example whose marked token is the middle of `passage`; its values are made up but obey post = act · in."""
    before, after = tokens_of(passage[0]), tokens_of(passage[2])
    return of_tokens(combination, [*before, passage[1], *after], len(before), peak=peak, values=values, **changed)


def of_tokens(
    combination: SignCombination,
    tokens: list[str],
    marked: int,
    *,
    peak: float = 5.12,
    values: bool = True,
    **changed: Any,
) -> PageExample:
    """An example of these tokens."""
    own = [_values(combination, i, marked, peak) for i in range(len(tokens))] if values else [None] * len(tokens)
    made: dict[str, Any] = {
        "value": combination.write_sign * peak, "tokens": tokens, "marked": marked, "values": own, "before": _REST,
        "after": _REST, "cut": (True, False), "split": "test", "document": "b1946ac92492d2347c6235b4d2611184",
        "text_id": 4711, "position": 118, "copies": 0,
    }  # fmt: skip
    return cast(PageExample, made | changed)


def _values(c: SignCombination, place: int, marked: int, peak: float) -> tuple[float, float, float, float]:
    """Values that fall off from the marked token on, with the signs of other combinations now and then."""
    if place == marked:
        gate, post = c.gate_sign * 2.31, c.write_sign * peak
        act = gate / (1 + math.exp(-gate))
        return gate, post / act, act, post
    other = COMBINATIONS[(place * 7 + marked) % 4] if place % 3 else c
    gate = other.gate_sign * (0.1 + (place * 37 % 29) / 12)
    act = gate / (1 + math.exp(-gate))
    x_in = other.in_sign * peak * (0.05 + (place * 53 % 31) / 40)
    return gate, x_in, act, act * x_in


def _full(c: SignCombination, rest: str, number: int) -> PageExample:
    pieces = tokens_of(rest) if " " in rest else [rest[i : i + 3] for i in range(0, len(rest), 3)]
    words = pieces[number : number + 48]
    return of_tokens(c, words, 32, peak=5.0 - number / 3, before=rest[:2000], after=rest[:2000], cut=(True, True))


def _strong() -> PageCombination:
    c = COMBINATIONS[0]
    examples = [example(c, _PASSAGES[i], peak=5.12 - i, copies=2 * (i == 0)) for i in range(4)]
    return _combination(c, 2_942_000, 0.1471, 0.1309, examples, _explanation("supported"))


def _unclear() -> PageCombination:
    c = COMBINATIONS[1]
    examples = [example(c, _PASSAGES[(i + 1) % 4], peak=4.2 - i, split="select") for i in range(3)]
    explanation = _explanation("trigger right, sign not distinguished")
    explanation["by"], explanation["unsealed"], explanation["others"] = "human Ada", True, []
    explanation["judge_fit"] = None
    return _combination(c, 13_540_000, 0.677, 0.6822, examples, explanation)


def _unexplained() -> PageCombination:
    c = COMBINATIONS[2]
    long = "x" * 10_240
    examples = [
        of_tokens(c, list(STRANGE), 13, peak=0.31),
        of_tokens(c, ["one", " two", long, " three"], 2, peak=0.2, values=False),
    ]
    made = _combination(c, 61_000, 0.0031, 0.0004, examples, None)
    made["reason"] = "fewer than 8 strong tokens from distinct texts in a split, or not explained yet"
    return made


def _empty() -> PageCombination:
    made = _combination(COMBINATIONS[3], 0, 0.0, 0.0, [], None)
    made["reason"] = "fewer than 8 strong tokens from distinct texts in a split, or not explained yet"
    made["no_examples"] = "no token of the corpus is in this combination"
    made["histogram"] = {"edges": _edges(), "counts": [0] * 34, "tau": None}
    made["statistics"] = {name: {"mean": None, "min": None, "max": None} for name in made["statistics"]}
    return made


def _combination(
    c: SignCombination,
    count: int,
    frequency: float,
    mass_share: float,
    examples: list[PageExample],
    explanation: PageExplanation | None,
) -> PageCombination:
    promotes, suppresses = [" otherwise", " not", "\n", "ever"], [" again", " Again", "再び", " encore"]
    if c.write_sign < 0:
        promotes, suppresses = suppresses, promotes
    return {
        "name": c.value, "write_sign": c.write_sign, "count": count, "frequency": frequency, "mass_share": mass_share,
        "promotes": promotes, "suppresses": suppresses, "histogram": _histogram(count), "statistics": _statistics(c),
        "explanation": explanation, "reason": None, "examples": examples, "no_examples": None,
    }  # fmt: skip


def _explanation(verdict: str) -> PageExplanation:
    scores: list[ScoreRow] = [
        _score("vs random", 0.91, 0.71, 0.98, 20, 20), _score("vs the others", 0.88, 0.70, 0.96, 20, 21),
        _score("same token", None, None, None, 20, 0, "where its peak tokens occur in other texts, it is never weak"),
        _score("recall in the corpus", None, 0.27, 0.98, 14, 0, "lo and hi are limits", metric="recall", chance=None),
        _score("precision in the corpus", 0.0034, 0.0011, 0.0089, 400, 19_000, metric="precision", chance=None),
    ]  # fmt: skip
    controls: list[ControlRow] = [
        {"name": "strongest: the text of gate− in+", "value": 0.5, "lift": 0.41, "lift_lo": 0.21, "lift_hi": 0.48},
        {"name": "empty text", "value": 0.5, "lift": 0.41, "lift_lo": 0.21, "lift_hi": None},
        {"name": "token list", "value": 0.83, "lift": 0.08, "lift_lo": -0.04, "lift_hi": 0.19},
    ]
    return {
        "text": "Fires at the end of a clause, just before a connective such as `Meanwhile` or `Instead`; there it "
        "takes ` again` away.",
        "label": "ends of clauses, before `Meanwhile` or `Instead`",
        "by": "llm Qwen3-8B", "judge": "Qwen3-8B", "judge_fit": True, "verdict": verdict, "scores": scores,
        "controls": controls, "unsealed": False, "judged_also": ["Judged also by gemma-2-9b: supported."],
        "others": [
            {"text": "on `.`", "by": "rule", "verdict": "not better than the token list", "unsealed": False},
            {"text": "ends of sentences", "by": "human Ada", "verdict": "not judged", "unsealed": True},
        ],
    }  # fmt: skip


def _score(
    name: str, value: float | None, lo: float | None, hi: float | None, n_pos: int, n_neg: int, note: str = "",
    metric: str = "AUROC", chance: float | None = 0.5,
) -> ScoreRow:  # fmt: skip
    return {
        "name": name, "metric": metric, "value": value, "lo": lo, "hi": hi, "n_pos": n_pos, "n_neg": n_neg,
        "chance": chance, "note": note,
    }  # fmt: skip


def _edges() -> list[float]:
    return [2 ** (k / 2) for k in range(-20, 13)]


def _histogram(count: int) -> Histogram:
    shape = [math.exp(-(((i - 14) / 5) ** 2)) for i in range(34)]
    return {"edges": _edges(), "counts": [int(count * s / sum(shape)) for s in shape], "tau": 2.0}


def _statistics(c: SignCombination) -> dict[str, Statistic]:
    def three(mean: float, far: float, sign: int) -> Statistic:
        lo, hi = sorted((sign * 0.00012, sign * far))
        return {"mean": sign * mean, "min": lo, "max": hi}

    act = 0.41 if c.gate_sign > 0 else 0.12
    return {
        "post": three(0.316, 19.34, c.write_sign), "x_in": three(0.74, 12.5, c.in_sign),
        "x_gate": three(0.66, 6.25, c.gate_sign), "act": three(act, 6.2 if c.gate_sign > 0 else 0.2785, c.gate_sign),
    }  # fmt: skip


def _projection(near: str, far: str) -> Projection:
    return {"top": _tokens(near, 1), "bottom": _tokens(far, -1)}


def _tokens(word: str, sign: int) -> list[Token]:
    spelled = (word, word.title(), word.upper(), "\n  ", " \u200bzero", "<b>", "再び", " nochmal", "ing", "\\xe2")
    return [{"token": token, "cosine": sign * (0.41 - 0.03 * i)} for i, token in enumerate(spelled)]


def _neighbours() -> dict[str, list[NeighbourRow]]:
    kinds: dict[str, Callable[[int], str]] = {
        "similar_out": lambda i: f"31.{i}", "similar_gate": lambda i: f"30.{i}", "similar_in": lambda i: f"29.{i}",
        "opposite_out": lambda i: f"31.{40 + i}", "opposite_gate": lambda i: f"8.{i}",
        "opposite_in": lambda i: f"7.{i}", "readers_gate": lambda i: "", "readers_in": lambda i: "",
        "writers_gate": lambda i: f"12.{i}", "writers_in": lambda i: f"13.{i}",
    }  # fmt: skip
    return {
        kind: [
            {"neuron": named(i), "cosine": (-1 if kind.startswith("opposite") else 1) * (0.62 - 0.04 * i)}
            for i in range(1, 9)
            if named(i)
        ]
        for kind, named in kinds.items()
    }


def _dot(i: int) -> tuple[float, float, float]:
    """A point of a cloud that is wide in cos(in,out) and narrow in cos(gate,out)."""
    a, b, c = (math.modf(math.sin(i * step) * 43758.5453)[0] for step in (12.9898, 78.233, 37.719))
    return round(0.45 * a * abs(b), 3), round(0.8 * b * abs(c), 3), round(0.9 * c * abs(c), 3)


def _provenance() -> Provenance:
    return {
        "model": "allenai/OLMo-7B-0424-hf", "revision": "0ad1e0c6a5bd4e3f", "weights_hash": "5f1c0f6b2a9d4e77",
        "dtype": "bfloat16", "corpus": "allenai/dolma", "tokens": 20_000_000, "sign_convention": "normalised",
        "fingerprint": "01070c60dbf48619", "protocols": ["rule-v2+traced", "llm-v3"],
        "made": "2026-11-20T21:37:59+00:00", "version": "0.1.0", "published": None,
    }  # fmt: skip
