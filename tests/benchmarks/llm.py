"""`make bench-llm`: how well a language model's explanations of published neurons tell held-out examples apart.

    OPENAI_BASE_URL=… OPENAI_API_KEY=… python -m tests.benchmarks.llm --llm NAME [--judge NAME] [--pages FOLDER]

Imports GLUScope's pages, has each neuron explained under `imported-v1` (eight examples a combination to learn from, the
others held out), and scores the drafts and, where they are there, the reference texts, with the judge: AUROC against
weak tokens of the same texts and against the other combinations, and how often the right one of four is picked. The
first check of this project had .89, .91 and 82 % with a strong model that wrote and another that judged, on six
neurons. Where no server can be reached the answer is "not measured".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import NeuronagentError, NotFoundError
from neuronagent.service.human import add_text
from neuronagent.service.llm.campaign import explain_neurons, score_stored
from neuronagent.service.llm.options import LLMOptions, plan_of
from neuronagent.service.lookup import Index

SHARED = Path(__file__).resolve().parents[3] / "shared"
REFERENCE_AUTHOR = "reference"


def main() -> int:
    arguments = _arguments()
    try:
        found = measure(arguments)
    except NeuronagentError as error:
        print(f"not measured: {error}")
        return 0
    for by, rows in found.items():
        _print(by, rows)
    Path("bench-llm.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench-llm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--llm", help="the model that writes (default: NEURONAGENT_LLM)")
    parser.add_argument("--judge", help="the model that judges, or local:FOLDER (default: the one that writes)")
    parser.add_argument("--base-url", help="the server (default: OPENAI_BASE_URL)")
    parser.add_argument("--pages", type=Path, default=SHARED / "gluscope", help="a folder of GLUScope's pages")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Rows by author: what the drafts scored, and what the reference texts scored."""
    from neuronagent.service.importing.gluscope import import_gluscope
    from neuronagent.service.llm.options import llm_of_environment

    if not arguments.pages.is_dir():
        raise NotFoundError(f"there are no pages in {arguments.pages}", remedy="name their folder with --pages")
    drafter = llm_of_environment(arguments.llm)
    plan = plan_of("default", "detection")
    options = LLMOptions(drafter=drafter, judge=arguments.judge, base_url=arguments.base_url, plan=plan)
    with tempfile.TemporaryDirectory() as folder:
        db = str(Path(folder) / "pages.db")
        import_gluscope(str(arguments.pages), db)
        with Index(db) as index:
            neurons = [neuron.neuron for neuron in index.reader.published.neurons()]
            found = {"drafts": []}
            if drafter is not None:
                explain_neurons(index, neurons, options)
                found["drafts"] = _rows(index, neurons, "llm", None)
            if _add_references(index, neurons):
                only = LLMOptions(judge=options.judge_model, base_url=arguments.base_url, plan=plan)
                for neuron in neurons:
                    for explanation, _ in index.explanations(neuron):
                        if explanation.author == REFERENCE_AUTHOR:
                            score_stored(index, [neuron], only, explanation_id=explanation.id)
                found["reference texts"] = _rows(index, neurons, "human", REFERENCE_AUTHOR)
    return found


def _add_references(index: Index, neurons: Sequence[NeuronId]) -> bool:
    path = SHARED / "reference" / "example_explanations.json"
    if not path.is_file():
        return False
    texts: Mapping[str, Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))["examples_only"]
    for neuron in neurons:
        for c, text in texts.get(str(neuron), {}).items():
            add_text(index, neuron, SignCombination.parse(c), text, REFERENCE_AUTHOR)
    return True


def _rows(index: Index, neurons: Sequence[NeuronId], source: str, author: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for neuron in neurons:
        for explanation, scores in index.explanations(neuron):
            said = explanation.explanation
            if said.source != source or explanation.author != author:
                continue
            found = {(s.score.metric, s.score.negative_set): s.score for s in scores if s.score.judge != "rule"}
            which = found.get(("which_combination", said.combination.value))
            rows.append(
                {
                    "neuron": str(neuron),
                    "combination": said.combination.value,
                    "text": said.text,
                    "same_texts": _value(found.get(("detection", "N0 same texts"))),
                    "others": _value(found.get(("detection", "N1"))),
                    "right_one": None if which is None or which.value is None else which.value,
                    "windows": 0 if which is None else which.n_pos,
                }
            )
    return rows


def _value(score: Any) -> float | None:
    return None if score is None else score.value


def _print(by: str, rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{by}: {len(rows)} explanations")
    for c in (None, *COMBINATIONS):
        own = [row for row in rows if c is None or row["combination"] == c.value]
        means = {key: _mean([row[key] for row in own]) for key in ("same_texts", "others", "right_one")}
        shown = "  ".join(f"{key} {'–' if value is None else f'{value:.2f}'}" for key, value in means.items())
        print(f"{'all' if c is None else c.value:<10} n {len(own):>2}  {shown}")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


if __name__ == "__main__":
    sys.exit(main())
