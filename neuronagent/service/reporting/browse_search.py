"""The search form of a server: what it asks for, as a query, and the neurons found, as rows of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from neuronagent.domain import COMBINATIONS, IO_CLASSES, ROLES, IOClass, NeuronId, Role, clip
from neuronagent.errors import UsageError
from neuronagent.report.server_content import Choice, Column, Hit, Listed, Said, SearchForm, Writes
from neuronagent.report.site_content import SiteRow, SiteUnit
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.addresses import colour, neuron_href, search_href
from neuronagent.service.reporting.site_rows import site_content
from neuronagent.service.tool_results import TokenPlace
from neuronagent.service.tool_search import token_criterion
from neuronagent.store.schema import COMBINATION_SUFFIXES
from neuronagent.store.search import SearchPage, SearchQuery, SearchRow
from neuronagent.wording import combination, label

ROWS = 50
"""Neurons on a page."""
MAX_PAGE = 1_000_000
LONGEST = 200
"""Characters of a field that are looked at."""
Form = Mapping[str, str]

_IN_TEXTS = "explanation"
_PLACES = {
    _IN_TEXTS: "explanation",
    "out_top": "token that +out promotes",
    "out_bottom": "token that −out promotes",
    "gate_top": "token that gate is like",
    "gate_bottom": "token that −gate is like",
    "in_top": "token that in is like",
    "in_bottom": "token that −in is like",
    **{c.value: f"strong token, {combination(c)}" for c in COMBINATIONS},
}
_SUFFIXED = tuple(zip(COMBINATIONS, COMBINATION_SUFFIXES, strict=True))
_FREQUENCIES = {f"frequency_{s}": f"frequency of {combination(c)}" for c, s in _SUFFIXED}
_SHARES = {f"mass_{s}": f"share of output in {combination(c)}" for c, s in _SUFFIXED}
_SORTS = {
    "neuron": "layer and number",
    "match": "closeness to the token",
    "cos_gate_in": "cos(gate,in)",
    "cos_gate_out": "cos(gate,out)",
    "cos_in_out": "cos(in,out)",
    **_FREQUENCIES,
    **_SHARES,
    "mass": "output mass Σ|post|",
    "kurtosis": "kurtosis of cos(out, tokens)",
    "norm_out": "‖w_out‖",
}
_ORDERS = {"up": "ascending", "down": "descending"}
_SHOWN = ("neuron", "cos_gate_in", "cos_gate_out", "cos_in_out", *_FREQUENCIES)
"""Columns whose heads sort."""


def form_as_sent(form: Form) -> SearchForm:
    """The form's fields as they stand on the page again."""
    return SearchForm(
        q=form.get("q", "")[:LONGEST],
        layer=form.get("layer", "")[:20],
        places=_choices(_PLACES.items(), form.get("in") or _IN_TEXTS),
        classes=_choices([("", "any class"), *((str(c), str(c)) for c in IO_CLASSES)], form.get("class", "")),
        roles=_choices([("", "any role"), *((r.value, r.value) for r in ROLES)], form.get("role", "")),
        sorts=_choices([("", "the usual order"), *_SORTS.items()], form.get("sort", "")),
        narrowed=any(form.get(field) for field in ("q", "class", "role", "layer")),
    )


def named(form: Form) -> NeuronId | None:
    """The neuron whose name stands in the box, if it is one."""
    if form.get("in", _IN_TEXTS) != _IN_TEXTS:
        return None
    try:
        return NeuronId.parse(form.get("q", ""))
    except UsageError:
        return None


def listed(index: Index, form: Form) -> Listed:
    """One page of the neurons that `form` asks for.

    Raises:
        UsageError: a field that cannot be understood.
        NotFoundError: no such layer or token.
    """
    page = _whole(form, "page", 1, MAX_PAGE) or 1
    query = _query(index, form, (page - 1) * ROWS)
    found = index.search(query)
    first = query.offset + 1 if found.rows else 0
    asked = {key: form[key] for key in ("q", "in", "class", "role", "layer", "sort", "order") if form.get(key)}
    return Listed(
        total=found.total,
        first=first,
        last=query.offset + len(found.rows),
        hits=_hits(index, found, query),
        columns={key: _column(key, query, asked) for key in _SHOWN},
        sorted_by=_SORTS[query.sort] if query.sort in ("mass", "kurtosis", "norm_out") else None,
        matched=bool(query.tokens),
        previous=search_href(asked | {"page": str(page - 1)}) if page > 1 and found.rows else None,
        next=search_href(asked | {"page": str(page + 1)}) if found.next_offset is not None else None,
        note=_note(found, query, page),
    )


def _query(index: Index, form: Form, offset: int) -> SearchQuery:
    # Spaces count: "dog" also finds " dog", but " dog" is exact.
    text = form.get("q", "") if form.get("q", "").strip() else ""
    if len(text) > LONGEST:
        raise UsageError(f"the text has {len(text):,} characters", remedy=f"allowed: {LONGEST}")
    place = _one_of(form, "in", _PLACES) or _IN_TEXTS
    by_token = bool(text) and place != _IN_TEXTS
    sort = _one_of(form, "sort", _SORTS) or ("match" if by_token else "neuron")
    if sort == "match" and not by_token:
        raise UsageError("there is no token to be close to", remedy="say where to look for one, or sort otherwise")
    order = _one_of(form, "order", _ORDERS)
    layer = _whole(form, "layer", 0, 999_999)
    if layer is not None:
        index.reader.baselines(layer)  # raises with the layers that there are
    io_class = IOClass.parse(form["class"]) if form.get("class") else None
    return SearchQuery(
        layers=() if layer is None else (layer,),
        roles=(Role.parse(form["role"]),) if form.get("role") else (),
        io_classes=(io_class.name,) if io_class else (),
        atypical=io_class.atypical if io_class else None,
        tokens=(token_criterion(index, text, cast(TokenPlace, place)),) if by_token else (),
        explanation="" if by_token else text.strip(),
        sort=sort,
        descending=order == "down" if order else sort != "neuron",
        limit=ROWS,
        offset=offset,
    )


def _hits(index: Index, found: SearchPage, query: SearchQuery) -> list[Hit]:
    """The rows of a page; what is said of them is chosen and judged as for the overview of a report."""
    neurons = [row.neuron for row in found.rows]
    rows = site_content(index, neurons, pages=lambda neuron: neuron_href(str(neuron)))["rows"] if neurons else []
    return [_hit(row, site, query) for row, site in zip(found.rows, rows, strict=True)]


def _hit(row: SearchRow, site: SiteRow, query: SearchQuery) -> Hit:
    return Hit(
        neuron=site["neuron"],
        href=site["page"] or "",
        layer=site["layer"],
        io_class=str(row.io_class),
        colour=colour(row.io_class),
        atypical=row.io_class.atypical,
        role=site["role"],
        cos_gate_in=site["cos_gate_in"],
        cos_gate_out=site["cos_gate_out"],
        cos_in_out=site["cos_in_out"],
        frequency=[unit["frequency"] for unit in site["units"]],
        mass_share=[unit["mass_share"] for unit in site["units"]],
        match=row.match,
        sorted_by=row.numbers.get(query.sort),
        said=_said(site["units"], query.explanation.casefold()),
        writes=_writes(site["units"]),
    )


def _said(units: Sequence[SiteUnit], wanted: str) -> Said | None:
    """The explanation of the greatest share of the output, of those that hold the text that was looked for."""
    explained = [unit for unit in units if unit["text"] is not None]
    if not explained:
        return None
    unit = max(explained, key=lambda unit: (wanted in (unit["text"] or "").casefold(), _mass(unit)))
    short, whole = label(unit["label"] or unit["text"] or "")[:LONGEST], unit["text"] or ""
    return Said(
        combination=unit["combination"],
        text=_round(whole, wanted) if wanted in whole.casefold() and wanted not in short.casefold() else short,
        verdict=unit["verdict"],
        unsealed=bool(unit["unsealed"]),
        auroc=unit["auroc"],
        lo=unit["auroc_lo"],
        hi=unit["auroc_hi"],
        more=len(explained) - 1,
    )


def _round(text: str, wanted: str) -> str:
    """The part of `text` in which `wanted` first stands."""
    start = max(0, text.casefold().find(wanted) - LONGEST // 2)
    return f"{'…' if start else ''}{text[start : start + LONGEST]}"


def _writes(units: Sequence[SiteUnit]) -> Writes | None:
    unit = max(units, key=_mass)
    return Writes(combination=unit["combination"], tokens=unit["promotes"]) if unit["mass_share"] else None


def _mass(unit: SiteUnit) -> float:
    return unit["mass_share"] or 0.0


def _column(key: str, query: SearchQuery, asked: Form) -> Column:
    """Sorted by already: the other way round; else cosines and shares begin with the largest."""
    sorted_ = "none" if query.sort != key else "descending" if query.descending else "ascending"
    down = sorted_ == "ascending" if sorted_ != "none" else key != "neuron"
    return Column(
        name=_SORTS[key], sorted=sorted_, href=search_href({**asked, "sort": key, "order": "down" if down else "up"})
    )


def _note(found: SearchPage, query: SearchQuery, page: int) -> str | None:
    if found.above is not None:
        return f"Too many match: only those above {found.above:.3g} were looked at. Narrow by layer."
    if not found.total:
        return "No neuron meets all of this: ask for less at a time."
    if not found.rows:
        return f"There is no page {page:,}: the last one is {-(-found.total // ROWS):,}."
    if query.tokens and query.tokens[0].split is not None:
        return "Match: largest |post| at this token among the strongest examples of the explain split."
    if query.tokens:
        return "Match: dot product with the token; only each vector's nearest tokens are searched."
    return None


def _choices(options: Iterable[tuple[str, str]], chosen: str) -> list[Choice]:
    return [Choice(value=value, label=label, chosen=value == chosen) for value, label in options]


def _one_of(form: Form, field: str, allowed: Iterable[str]) -> str | None:
    value = form.get(field)
    if value and value not in allowed:
        raise UsageError(f"{clip(value)!r} is nothing for “{field}”", remedy=f"allowed: {', '.join(allowed)}")
    return value or None


def _whole(form: Form, field: str, least: int, most: int) -> int | None:
    value = form.get(field, "").strip()
    if not value:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 9 or not least <= int(value) <= most:
        raise UsageError(f"{clip(value)!r} is no {field}", remedy="give a whole number, as the links on the page do")
    return int(value)
