"""A language model whose whole understanding is words: a scripted server that writes and judges.

As a writer it names the tokens that it saw marked most often in a combination. As a judge it says yes where the marked
token is named, in backquotes, in the explanation, or where the explanation is one of the planted concepts, which it
knows by heart: it passes the check of judges. What it says is thus reasonable for neurons that fire on single tokens
and foreseeable. Under the name `CARELESS` it says yes to everything.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache

from neuronagent.explain.judge_check import SEED
from neuronagent.explain.planted_concepts import concepts
from neuronagent.explain.prompts import passage, quoted
from tests.servers.scripted import Body, Response, Scripted, says

SUMMARY = "A neuron that answers to single words."
CARELESS = "careless"
_NAMED = 3


def word_model() -> Scripted:
    """The server; use it in a `with` block."""
    return Scripted(_answer)


def _answer(body: Body, _number: int) -> Response:
    careless = body["model"] == CARELESS
    said = str(body["messages"][-1]["content"])
    if "neuron_summary" in said:
        return says(_draft(said))
    texts = re.findall(r'^(?:Explanation|[A-Z]): (".*")$', said, re.MULTILINE)
    found = re.search(r'^Passage: (".*")$', said, re.MULTILINE)
    shown = found[1] if found else '""'
    fits = [careless or _names(json.loads(text), json.loads(shown)) or (text, shown) in _known() for text in texts]
    if not body.get("logprobs"):
        return says(json.dumps({"fits": 97 if any(fits) else 3}))
    labels = [chr(ord("A") + place) for place in range(len(texts))] if len(texts) > 1 else ["Yes", "No"]
    yes = fits if len(texts) > 1 else [fits[0], not fits[0]]
    return says("Yes", top={label: -0.05 if fit else -3.0 for label, fit in zip(labels, yes, strict=True)})


def _names(text: str, shown: str) -> bool:
    marked = re.search(r"<<(.*)>>", shown, re.DOTALL)
    return marked is not None and marked[1] in re.findall("`([^`]*)`", text)


@cache
def _known() -> set[tuple[str, str]]:
    """The planted concepts with the passages that they fit, as they stand in a prompt."""
    return {
        (quoted(text), passage(p.tokens, len(p.tokens) - 1))
        for concept in concepts(SEED)
        for p in concept.passages
        for text, fits in ((concept.text, p.holds), (concept.wrong_text, p.wrong_holds))
        if fits
    }


def _draft(said: str) -> str:
    asked = re.findall(r"gate[+-]_in[+-]", said[said.rindex("Explain ") :].partition(". Answer")[0])
    sections = re.split(r"^## (gate[+-]_in[+-])$", said, flags=re.MULTILINE)
    seen = dict(zip(sections[1::2], sections[2::2], strict=True))
    return json.dumps(
        {"neuron_summary": SUMMARY, "combinations": [_claims(c, seen[c]) for c in asked], "same": []},
        ensure_ascii=False,
    )


def _claims(combination: str, section: str) -> dict[str, object]:
    passages = [json.loads(line) for line in re.findall(r'^value [^:]*: (".*") next:', section, re.MULTILINE)]
    tokens = Counter(found[1] for passage in passages if (found := re.search(r"<<(.*)>>", passage, re.DOTALL)))
    named = ", ".join(f"`{token}`" for token, _ in tokens.most_common(_NAMED))
    return {
        "combination": combination,
        "label": "certain single words",
        "summary": "It answers to certain words.",
        "trigger": f"The words {named}.",
        "context": "",
        "not_when": "",
        "promotes": [],
        "suppresses": [],
        "confidence": 0.9,
    }
