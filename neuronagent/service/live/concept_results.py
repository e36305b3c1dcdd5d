"""What a search by concept found: values that can be shown, stored and sent, and the verdict on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.service.live.concept_controls import LENGTH, ORDINARY, PLACE, TOKEN

LEVEL = 0.05
"""A p above it may be chance."""
FIRES, SILENT = "fires", "silent"
CHANCE = "may be chance"
TOO_FEW = "too few groups for a p"
NOT_CONFIRMED = "not confirmed on held-out texts"
ONE_TOKEN = "not better than one token"
SUPPORTED = "supported"
_NAMES = {LENGTH: "the length of the text", PLACE: "the token's place", ORDINARY: "an ordinary neuron"}


@dataclass(frozen=True, kw_only=True)
class Half:
    """How many items of each label a half has, and in how many independent groups. `divisions`: in how many ways the
    permutations divided the items; with fewer than 20 there is no p. `exact`: whether its p is, else approximate, as
    groups differ in size and have both labels."""

    positive: int
    negative: int
    groups: int
    divisions: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Over:
    """The lift over a control, with its interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True, kw_only=True)
class ControlScore:
    """A control on the held-out half, in the direction that the search half gave it: its AUROC, and how far the row's,
    in its own direction, lies above. `what` is the token or the neuron."""

    kind: str
    what: str
    auroc: float
    lift: Over


@dataclass(frozen=True, kw_only=True)
class ConceptRow:
    """A neuron in a sign combination. Its AUROCs are those of firing: below ½ where it is silent in texts of label 1.

    `search_auroc` and `family_wise_p` are of the search half; all else of the held-out half. A p is None where groups
    can be exchanged in too few ways. `lift` is over the
    strongest of `controls`, whose choice its interval includes.
    """

    neuron: NeuronId
    combination: SignCombination
    direction: str
    search_auroc: float
    family_wise_p: float | None
    auroc: float
    lo: float
    hi: float
    p: float | None
    q: float | None
    controls: tuple[ControlScore, ...]
    strongest: str
    lift: Over
    verdict: str


@dataclass(frozen=True, kw_only=True)
class ConceptSearch:
    """`tried` neuron × combination, of `neurons` neurons; `absent` more are in no text of the search half. By chance
    the best of as many has an AUROC of `chance_median`, and in one of twenty cases more than `chance_95`
    (None where groups can be exchanged in too few ways).

    `placed`: tokens are labelled, not texts. `doubled`: items left out as they were there already. `labels_hash` is of
    texts, labels, places and groups. `permutations` that were made: fewer than asked for where hardly any leaves enough
    items of each label. `passes` over the texts of the search half.
    """

    rows: tuple[ConceptRow, ...]
    tried: int
    absent: int
    neurons: int
    chance_median: float | None
    chance_95: float | None
    search: Half
    held_out: Half
    placed: bool
    doubled: int
    labels_hash: str
    permutations: int
    held_out_permutations: int
    seed: int
    passes: int


def verdict(
    *,
    family_wise_p: float | None,
    q: float | None,
    lo: float,
    controls: tuple[ControlScore, ...],
    strongest: str,
    lift: Over,
) -> str:
    """The first that applies; `lo` is the lower limit of the held-out AUROC in the direction found."""
    if family_wise_p is not None and family_wise_p > LEVEL:
        return CHANCE
    if family_wise_p is None or q is None:
        return TOO_FEW
    if q > LEVEL or lo <= 0.5:
        return NOT_CONFIRMED
    beaten_not = [strongest] if lift.lo <= 0 else [control.kind for control in controls if control.lift.lo <= 0]
    if beaten_not:
        return ONE_TOKEN if beaten_not[0] == TOKEN else f"not better than {_NAMES.get(beaten_not[0], beaten_not[0])}"
    return SUPPORTED


def concept_view(found: ConceptSearch, model: Mapping[str, Any]) -> dict[str, Any]:
    """What `neuronagent search --concept --json` prints; `model` says which index it is of."""
    rows = [{**asdict(row), "neuron": str(row.neuron), "combination": row.combination.value} for row in found.rows]
    return {"schema_version": 1, "model": dict(model), **asdict(found), "rows": rows}
