"""The rows of a report's overview, and what they come to: everything is read in bulk, some hundred neurons at a time.

Which explanation of a unit is shown, by which judge and under which protocol is what `views.explanation_view` shows:
its functions decide here too. Nothing is explained or scored for a report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronagent import wording
from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination, finite
from neuronagent.errors import NotFoundError
from neuronagent.explain.items import N1
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.detection import AUROC
from neuronagent.explain.verdict import Verdict
from neuronagent.report.site_content import ClassCount, SiteContent, SiteRow, SiteSummary, SiteUnit
from neuronagent.service import saying, score_choice, views
from neuronagent.service.batch_report import DECISIVE, NeuronUnits, Unit, tally, unit
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.provenance import provenance
from neuronagent.store.explanations import StoredExplanation, StoredScore
from neuronagent.store.overview import GEOMETRY, NeuronOverview, Stored

KIND = "report"
PROMOTED = 3
"""Tokens that a row names of those that a combination promotes."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """The explanation that is shown of a unit, its judge, and the scores that count."""

    explanation: StoredExplanation
    judge: str | None
    scores: Sequence[StoredScore]


@dataclass
class _Gathered:
    """What the rows come to, as they are made."""

    found: dict[NeuronId, NeuronUnits] = field(default_factory=dict[NeuronId, NeuronUnits])
    verdicts: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    judges: Counter[str] = field(default_factory=Counter[str])
    classes: Counter[tuple[str | None, str | None]] = field(default_factory=Counter["tuple[str | None, str | None]"])
    explained: int = 0


def site_content(
    index: Index,
    neurons: Iterable[NeuronId],
    *,
    pages: Callable[[NeuronId], str | None],
    title: str | None = None,
    selection: str | None = None,
    files: Mapping[str, str] | None = None,
    model_page: str | None = None,
) -> SiteContent:
    """The overview of `neurons`, in this order, each once. `pages`: where the page of a neuron is; `title`, `selection`
    in words; `files`, `model_page` as in `SiteContent`.

    Raises:
        NotFoundError: a neuron that the index does not have.
    """
    wanted = list(dict.fromkeys(neurons))
    gathered = _Gathered()
    rows = _rows(index, wanted, pages, gathered)
    summary = _summary(wanted, gathered)
    name = wording.short(str(index.info["model"]["name"]))
    return {
        "schema_version": views.SCHEMA_VERSION,
        "kind": KIND,
        "title": title or f"{len(wanted):,} neurons of {name}",
        "selection": selection,
        "imported": index.is_imported,
        "rows": rows,
        "summary": summary,
        "files": dict(files or {}),
        "model_page": model_page,
        "provenance": provenance(index.info, [wording.visible(protocol) for protocol in summary["protocols"]]),
    }


def _rows(
    index: Index, wanted: Sequence[NeuronId], pages: Callable[[NeuronId], str | None], gathered: _Gathered
) -> list[SiteRow]:
    overviews = index.reader.overviews(wanted, tokens=PROMOTED)
    missing = next((neuron for neuron in wanted if neuron not in overviews), None)
    if missing is not None:
        raise NotFoundError(f"neuron {missing} is not in this index", remedy="name neurons that are")
    fit = index.judges_fit
    units = {
        neuron: _units(neuron, stored, overviews[neuron], fit, gathered) for neuron, stored in _stored(index, wanted)
    }
    rows: list[SiteRow] = []
    for neuron in wanted:
        own = overviews[neuron]
        io_class, role = own.io_class and str(own.io_class), own.role and own.role.value
        gathered.classes[io_class, role] += 1
        row: Any = {
            "neuron": str(neuron),
            "layer": neuron.layer,
            "index": neuron.index,
            "page": pages(neuron),
            "io_class": io_class,
            "role": role,
            **{name: finite((own.geometry or {}).get(name)) for name in GEOMETRY},
            "explained": neuron in units,
            "units": units.get(neuron) or [_unit(own, c, None, fit) for c in COMBINATIONS],
        }
        rows.append(row)
    return rows


def _stored(index: Index, wanted: Sequence[NeuronId]) -> Iterator[tuple[NeuronId, list[Stored]]]:
    return index.reader.stored(wanted, DECISIVE)


def _units(
    neuron: NeuronId, stored: Sequence[Stored], own: NeuronOverview, fit: Mapping[str, bool], gathered: _Gathered
) -> list[SiteUnit]:
    """The units of a neuron of which something is stored, and what counts of them."""
    shown: dict[SignCombination, _Shown] = {}
    for c in COMBINATIONS:
        ranked = views.ranked(stored, c, fit)
        if ranked:
            judge, scores = views.judged(ranked[0][1], fit)
            shown[c] = _Shown(explanation=ranked[0][0], judge=judge, scores=scores)
    gathered.explained += 1
    gathered.found[neuron] = NeuronUnits(
        units=tuple(counted for said in shown.values() for counted in _counted(said, fit)),
        not_told_apart=_not_told_apart(shown),
    )
    units = [_unit(own, c, shown.get(c), fit, otherwise=Verdict.NOT_ENOUGH.value) for c in COMBINATIONS]
    gathered.verdicts.update(str(found["verdict"]) for found in units)
    gathered.sources.update(found["by"] for found in units if found["by"] is not None)
    gathered.judges.update(found["judge"] for found in units if found["judge"] is not None)
    return units


def _counted(said: _Shown, fit: Mapping[str, bool]) -> list[Unit]:
    """What counts of an explanation that a judge has scored by detection."""
    scores = [row.score for row in said.scores]
    if said.judge is None or not any(score.metric == AUROC for score in scores):
        return []
    protocol = next(row.protocol_version for row in said.scores if row.score.judge == said.judge)
    is_rule = said.explanation.explanation.source == score_choice.RULE
    return [unit(scores, protocol, is_rule=is_rule, fit=views.judge_fit(said.judge, fit) is not False)]


def _not_told_apart(shown: Mapping[SignCombination, _Shown]) -> tuple[tuple[SignCombination, SignCombination], ...]:
    """The pairs that `views.cross_view` names: of explanations that were judged together."""
    pairs = [row for said in shown.values() for row in said.scores if row.score.metric == cross_combination.PAIRWISE]
    if len({(row.score.judge, row.protocol_version) for row in pairs}) > 1:
        return ()
    return tuple(cross_combination.not_told_apart({c: [s.score for s in said.scores] for c, said in shown.items()}))


def _unit(
    own: NeuronOverview,
    c: SignCombination,
    said: _Shown | None,
    fit: Mapping[str, bool],
    otherwise: str | None = None,
) -> SiteUnit:
    """One row's unit; its verdict is `otherwise` where there is no explanation."""
    found: Any = dict.fromkeys(SiteUnit.__annotations__)
    found |= {
        "combination": c.value,
        "frequency": finite(own.frequency[c]),
        "mass_share": finite(own.mass_share[c]),
        "promotes": list(own.nearest[0 if c.write_sign > 0 else 1]),
        "verdict": otherwise,
    }
    return found if said is None else found | _said(said, fit)


def _said(said: _Shown, fit: Mapping[str, bool]) -> dict[str, Any]:
    view = views.stored_view(said.explanation)
    scores = [
        views.score_view(row) for row in said.scores if row.score.metric == AUROC and row.score.negative_set != N1
    ]
    first = score_choice.headline(scores) or {}
    control: Mapping[str, Any] = (score_choice.strongest(first) or ("", {}))[1]
    return {
        "verdict": views.verdict_of(said.explanation, said.scores, fit),
        "text": str(view["text"]),
        "label": None if view["label"] is None else str(view["label"]),
        "source": str(view["source"]),
        "by": saying.writer(view),
        "judge": said.judge,
        "judge_fit": views.judge_fit(said.judge, fit),
        "unsealed": bool(view["unsealed"]),
        "against": score_choice.against(scores) if first else None,
        "auroc": first.get("value"),
        "auroc_lo": first.get("lo"),
        "auroc_hi": first.get("hi"),
        "n_pos": first.get("n_pos"),
        "n_neg": first.get("n_neg"),
        **{name: finite(control.get(name)) for name in ("lift", "lift_lo", "lift_hi")},
    }


def _summary(wanted: Sequence[NeuronId], gathered: _Gathered) -> SiteSummary:
    report = tally(wanted, gathered.found)
    told = report.to_dict()
    order = [verdict.value for verdict in reversed(Verdict)]
    verdicts = sorted(
        gathered.verdicts.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)
    )
    classes: list[ClassCount] = [
        {"io_class": io_class, "role": role, "neurons": count} for (io_class, role), count in gathered.classes.items()
    ]
    return {
        "neurons": len(wanted),
        "explained": gathered.explained,
        "unexplained": len(wanted) - gathered.explained,
        "units": len(COMBINATIONS) * gathered.explained,
        "explanations": sum(gathered.sources.values()),
        "scored": report.units,
        "verdicts": dict(verdicts),
        "lift": told["lift_over_strongest_control"],
        "benjamini_hochberg": told["benjamini_hochberg"],
        "not_told_apart": told["not_told_apart"],
        "protocols": told["protocols"],
        "sources": dict(gathered.sources.most_common()),
        "judges": dict(gathered.judges.most_common()),
        "classes": classes,
    }
