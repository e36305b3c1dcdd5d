"""The tool that finds neurons: criteria as a language model writes them, turned into a query of the index.

Of examples only those of the `explain` split are searched: a token that is a peak in other splits alone finds nothing,
since who looks for neurons here may write an explanation that those splits are to judge.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuronagent.domain import COMBINATIONS, IOClass, Role, SignCombination, Split
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.service.bounded import Cursor, Format, budget, checked_limit, more, number, page
from neuronagent.service.lookup import Index
from neuronagent.service.tool_results import SearchHit, SearchResult, Sort, TokenPlace
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean
from neuronagent.store.schema import COMBINATION_SUFFIXES
from neuronagent.store.search import Range, SearchPage, SearchQuery, SearchRow, TokenCriterion

_EXAMPLES = {c.value for c in COMBINATIONS}
"""Places of a token that are found by its examples."""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What neurons are looked for; all given criteria must hold, ranges include their ends."""

    layers: tuple[int, ...] = ()
    role: str | None = None
    io_class: str | None = None
    min_cos_in_out: float | None = None
    max_cos_in_out: float | None = None
    min_cos_gate_in: float | None = None
    max_cos_gate_in: float | None = None
    min_cos_gate_out: float | None = None
    max_cos_gate_out: float | None = None
    combination: str | None = None
    min_frequency: float | None = None
    min_mass_share: float | None = None
    token: str | None = None
    token_in: TokenPlace = "out_top"
    explanation: str | None = None
    sort: Sort | None = None
    descending: bool | None = None


def search_neurons(
    index: Index,
    criteria: Criteria,
    *,
    response_format: Format = "concise",
    limit: int | None = None,
    cursor: str | None = None,
) -> SearchResult:
    """One page of the neurons that meet `criteria`."""
    cursors = Cursor(index.info.get("fingerprint"), "search", criteria)
    offset, wanted = cursors.offset(cursor), checked_limit(limit, 8 if response_format == "concise" else 16)
    query = _query(index, criteria, limit=wanted, offset=offset)
    found = index.search(query)

    def render(hits: list[SearchHit], following: str | None) -> SearchResult:
        return SearchResult(
            available=True,
            total=found.total,
            sort=f"{criteria.sort or ('match' if criteria.token else 'neuron')}{' descending' * query.descending}",
            neurons=hits,
            next_cursor=following,
            provenance=provenance(index),
            note=more(offset + len(hits), found.total, following) + _note(criteria, found),
        )

    hits = [_hit(row, criteria, response_format) for row in found.rows]
    room = budget(response_format, limit)
    return page(hits, render, cursor=cursors, offset=offset, total=found.total, room=room)[0]


def _query(index: Index, criteria: Criteria, *, limit: int, offset: int) -> SearchQuery:
    c = SignCombination.parse(criteria.combination) if criteria.combination else None
    sort = criteria.sort or ("match" if criteria.token else "neuron")
    needs = "min_frequency, min_mass_share, sort by frequency and sort by mass_share"
    ranged = criteria.min_frequency is not None or criteria.min_mass_share is not None
    if c is None and (ranged or sort in ("frequency", "mass_share")):
        raise UsageError("there is no combination", remedy=f"{needs} need one, such as combination='gate+_in-'")
    if sort == "match" and not criteria.token:
        raise UsageError("sort by match needs a token", remedy="give token, or sort by something else")
    if c is not None and sort in ("frequency", "mass_share"):
        sort = f"{'mass' if sort == 'mass_share' else sort}_{COMBINATION_SUFFIXES[c.position]}"
    label = IOClass.parse(criteria.io_class) if criteria.io_class else None
    cosines: dict[str, Range] = {
        "cos_in_out": (criteria.min_cos_in_out, criteria.max_cos_in_out),
        "cos_gate_in": (criteria.min_cos_gate_in, criteria.max_cos_gate_in),
        "cos_gate_out": (criteria.min_cos_gate_out, criteria.max_cos_gate_out),
    }
    return SearchQuery(
        layers=_layers(index, criteria.layers),
        roles=(Role.parse(criteria.role),) if criteria.role else (),
        io_classes=(label.name,) if label else (),
        atypical=label.atypical if label else None,
        cosines=cosines,
        frequency={c: (criteria.min_frequency, None)} if c else {},
        mass={c: (criteria.min_mass_share, None)} if c else {},
        tokens=() if not criteria.token else (token_criterion(index, criteria.token, criteria.token_in),),
        explanation=criteria.explanation or "",
        sort=sort,
        descending=criteria.descending if criteria.descending is not None else sort != "neuron",
        limit=limit,
        offset=offset,
    )


def _layers(index: Index, wanted: tuple[int, ...]) -> tuple[int, ...]:
    for layer in wanted:
        index.reader.baselines(layer)  # raises with the layers that there are
    return wanted


def token_criterion(index: Index, token: str, place: TokenPlace) -> TokenCriterion:
    """Neurons at which `token` stands in this place; of examples only those of the explain split.

    Raises:
        NotFoundError: the model has no such token.
    """
    ids = index.reader.find_tokens(token)
    if not ids:
        remedy = "give the text of one single token, such as 'dog' or ' dog'; a long word may be several tokens"
        raise NotFoundError(f"no token of this model reads {clean(token, 40)!r}", remedy=remedy)
    split = Split.EXPLAIN if place in _EXAMPLES else None
    return TokenCriterion(kind=place, token_ids=tuple(ids), split=split)


def _hit(row: SearchRow, criteria: Criteria, response_format: Format) -> SearchHit:
    hit = SearchHit(
        neuron=str(row.neuron),
        io_class=str(row.io_class),
        cos_gate_in=number(row.cosines["cos_gate_in"]),
        cos_gate_out=number(row.cosines["cos_gate_out"]),
        cos_in_out=number(row.cosines["cos_in_out"]),
    )
    if row.role:
        hit["role"] = row.role.value
    if criteria.sort in ("kurtosis", "skew", "mass"):
        hit["sorted_by"] = number(row.numbers[criteria.sort])
    if criteria.token:
        hit["match"] = number(row.match)
    shares = {c: share for c, share in row.mass_share.items() if share is not None}
    main = max(shares, key=lambda c: shares[c]) if shares else None
    chosen = SignCombination.parse(criteria.combination) if criteria.combination else None
    if response_format == "detailed":
        hit["frequency"] = {c.value: number(row.frequency[c]) for c in COMBINATIONS}
        hit["mass_share"] = {c.value: number(row.mass_share[c]) for c in COMBINATIONS}
    elif chosen:
        hit["frequency"] = {chosen.value: number(row.frequency[chosen])}
        hit["mass_share"] = {chosen.value: number(row.mass_share[chosen])}
    else:
        hit["main_combination"] = main.value if main else None
        hit["main_mass_share"] = number(shares[main]) if main else None
    return hit


def _note(criteria: Criteria, found: SearchPage) -> str:
    bound = "" if found.above is None else f" Too many: only matches above {number(found.above)}; add layers."
    if not found.total:
        return f"No neuron meets all criteria: widen one; model_info gives the number of neurons of each class.{bound}"
    if criteria.sort in ("kurtosis", "skew"):
        return f"sorted_by: {criteria.sort} of cos(out, token) over the vocabulary.{bound}"
    if criteria.sort == "mass":
        return f"sorted_by: output mass, the sum of |post| over the corpus.{bound}"
    if criteria.token and criteria.token_in in _EXAMPLES:
        return f"match: largest |post| at this token among the strongest examples, explain split only.{bound}"
    if criteria.token:
        return "match: dot product with the token; only each vector's nearest tokens are searched."
    return "main_combination: the one with the largest share of the output mass Σ|post|."
