"""Overviews: a few neurons of every kind, with what corpora and models may hold, and thousands of others."""

from __future__ import annotations

import random
from typing import Any

from neuronagent.domain import COMBINATIONS, IO_CLASSES, ROLES
from neuronagent.explain.verdict import Verdict
from neuronagent.report.site_content import SiteContent, SiteRow, SiteUnit

HOSTILE = (
    '</script><script>document.title = "taken"</script>',
    "<!-- <script>",
    "</style><b id='made'>bold</b>",
    "a\u2028b\u2029c\x00d\u202ee\u200bf",
    "\ud800 half a character",
    '" onmouseover="alert(1)" {{ 7 * 7 }} &amp;',
    "מילה בעברית",
)
_WORDS = ["self", "return", "import", "class", "numbers", "brackets", "dates", "French", "quotes", "legal", "physics"]


def unit(place: int, **own: Any) -> SiteUnit:
    """One unit, by default not explained."""
    found: Any = dict.fromkeys(SiteUnit.__annotations__)
    return found | {
        "combination": COMBINATIONS[place].value,
        "frequency": 0.25,
        "mass_share": 0.25,
        "promotes": ["up"] if COMBINATIONS[place].write_sign > 0 else ["down"],
        **own,
    }


def explained(place: int, text: str, auroc: float | None = 0.9, verdict: str = "supported", **own: Any) -> SiteUnit:
    """A unit of which something is said."""
    scored: dict[str, Any] = {"auroc": auroc, "auroc_lo": None, "auroc_hi": None, "judge": None, "lift": None}
    if auroc is not None:
        scored |= {"auroc_lo": max(0.0, auroc - 0.1), "auroc_hi": min(1.0, auroc + 0.1), "n_pos": 14, "n_neg": 20}
        scored |= {"lift": auroc - 0.5, "lift_lo": auroc - 0.6, "lift_hi": auroc - 0.4}
        scored |= {"judge": "rule", "judge_fit": True, "against": "vs random"}
    said = {"verdict": verdict, "text": text, "source": "rule", "by": "rule", "unsealed": False}
    return unit(place, **{**said, **scored, **own})


def row(layer: int, index: int, units: list[SiteUnit], **own: Any) -> SiteRow:
    """One neuron, by default one of orthogonal output without a role."""
    nothing: Any = {
        "neuron": f"{layer}.{index}",
        "layer": layer,
        "index": index,
        "page": f"{layer}.{index}.html",
        "io_class": "orthogonal output",
        "role": None,
        "cos_gate_in": 0.1,
        "cos_gate_out": -0.2,
        "cos_in_out": 0.003,
        "norm_gate": 1.0,
        "norm_in": 1.0,
        "norm_out": 1.0,
        "explained": any(found["verdict"] for found in units),
        "units": units,
    }
    return nothing | own


def content(rows: list[SiteRow], **own: Any) -> SiteContent:
    """The overview of `rows`; its summary has what follows from them, and a distribution that does not."""
    told = [found for line in rows if line["explained"] for found in line["units"]]
    verdicts = {name: sum(found["verdict"] == name for found in told) for name in {str(u["verdict"]) for u in told}}
    scored = sum(found["auroc"] is not None for found in told)
    classes = {(line["io_class"], line["role"]) for line in rows}
    whole: Any = {
        "schema_version": 1,
        "kind": "report",
        "title": f"{len(rows):,} neurons of sample",
        "selection": None,
        "imported": False,
        "rows": rows,
        "summary": {
            "neurons": len(rows),
            "explained": sum(line["explained"] for line in rows),
            "unexplained": sum(not line["explained"] for line in rows),
            "units": len(told),
            "explanations": sum(found["text"] is not None for found in told),
            "scored": scored,
            "verdicts": dict(sorted(verdicts.items())),
            "lift": _lift(scored) if scored else None,
            "benjamini_hochberg": {"q": 0.05, "tested": scored, "discoveries": scored},
            "not_told_apart": [],
            "protocols": {"rule-v1": scored} if scored else {},
            "sources": {"rule": len(told)} if told else {},
            "judges": {"rule": scored} if scored else {},
            "classes": [
                {"io_class": c, "role": r, "neurons": sum((x["io_class"], x["role"]) == (c, r) for x in rows)}
                for c, r in sorted(classes, key=str)
            ],
        },
        "files": {"CSV": "neurons.csv", "JSONL": "neurons.jsonl"},
        "model_page": None,
        "provenance": {
            "model": "sample", "revision": None, "weights_hash": None, "dtype": "float32", "corpus": "texts.jsonl",
            "tokens": 1000, "sign_convention": "normalised", "fingerprint": "0123456789abcdef",
            "protocols": ["rule-v1"], "made": None, "version": "0.1", "published": None,
        },
    }  # fmt: skip
    return whole | own


def _lift(n: int) -> dict[str, Any]:
    edges = [round(-1 + step / 10, 1) for step in range(21)]
    return {
        "n": n,
        "quantiles": {"0": -0.1, "0.05": 0.0, "0.25": 0.2, "0.5": 0.4, "0.75": 0.45, "0.95": 0.5, "1": 0.5},
        "histogram": {"edges": edges, "counts": [0] * 14 + [n] + [0] * 5},
        "above_zero": n,
        "lower_limit_above_zero": n,
    }


def few() -> SiteContent:
    """Neurons by whose place everything can be told: 0.0 to 0.7 and 3.10."""
    rows = [
        row(0, 0, [
            explained(0, "Fires on ` self.` and more.", 0.95, label="on ` self.`", frequency=0.5),
            explained(1, "Dates of French law.", 0.4, "not supported", by="llm Qwen3-8B", source="llm", frequency=0.01),
            unit(2, verdict="not enough examples"),
            explained(3, "Whatever nobody scored.", None, "not scored", by="human Ada", source="human"),
        ]),
        row(0, 1, [explained(c, f"word {c}", 0.6 + c / 10) for c in range(4)], io_class="depletion", role="prediction",
            cos_in_out=-0.8),
        row(0, 2, [unit(c) for c in range(4)], io_class="atypical depletion", cos_in_out=-0.7),
        row(0, 3, [unit(c, frequency=None, mass_share=None, promotes=[]) for c in range(4)], page=None,
            io_class="enrichment", role="suppression", cos_in_out=0.9),
        *(row(0, 4 + place, [explained(c, text, 0.7, promotes=[text]) for c in range(4)])
          for place, text in enumerate(HOSTILE)),
        row(3, 10, [explained(c, "SELF in capitals", 1.0) for c in range(4)]),
    ]  # fmt: skip
    return content(rows)


def sample_site(neurons: int) -> SiteContent:
    """So many neurons, most of them explained in all four combinations."""
    draw = random.Random(0)
    verdicts = [Verdict.SUPPORTED.value] * 3 + [Verdict.NOT_SUPPORTED.value, Verdict.TOKEN_LIST.value]
    tokens = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(20_000)]

    def made(c: int, writes: dict[int, list[str]]) -> SiteUnit:
        said = "on `" + "`, `".join(draw.choices(_WORDS, k=draw.randint(1, 7))) + "`"
        own: dict[str, Any] = {"promotes": writes[COMBINATIONS[c].write_sign], "label": said}
        own |= {"frequency": draw.random(), "mass_share": draw.random()}
        return explained(c, f"Fires {said}.", round(draw.uniform(0.3, 1.0), 4), draw.choice(verdicts), **own)

    rows: list[SiteRow] = []
    for place in range(neurons):
        writes = {sign: draw.choices(tokens, k=3) for sign in (1, -1)}
        units = [
            made(c, writes) if draw.random() < 0.9 else unit(c, verdict=Verdict.NOT_ENOUGH.value) for c in range(4)
        ]
        own: dict[str, Any] = {name: draw.uniform(-1, 1) for name in ("cos_gate_in", "cos_gate_out", "cos_in_out")}
        own |= {
            "io_class": str(draw.choice(IO_CLASSES)),
            "role": draw.choice([None, None, ROLES[0].value, ROLES[1].value]),
        }
        rows.append(row(place // 1000, place % 1000, units, **own))
    return content(rows)
