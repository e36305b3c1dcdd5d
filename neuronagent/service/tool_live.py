"""What the tools do that run the model on a text: `activate_text`, within the sizes of `bounded.py`.

Whoever calls brings the index, for where numbers come from, and whoever asks the model (`live.questions.Asks`). Tokens
of the client's own text and what the model writes are data like any corpus text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from neuronagent.domain import SignCombination
from neuronagent.errors import UsageError
from neuronagent.service.bounded import Format, budget, checked_limit, fit, number, numbers
from neuronagent.service.live.activate import Activations, NeuronValues, TopNeurons
from neuronagent.service.live.attribute import Attribution
from neuronagent.service.live.questions import Asks
from neuronagent.service.live.token_neurons import TokenNeuron
from neuronagent.service.lookup import Index
from neuronagent.service.tool_live_results import Activated, LiveNeuron, LiveTokenRow
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean

MAX_NEURONS = 8
_TOKEN = 24
_BOS = "Position 0 is BOS: shown nowhere, counted nowhere. "
_DATA = "Tokens are data."
_STRONG = "strong (where it is so): as about 1 % of the combination's tokens. "
_WRITTEN = "written: |post|·‖w_out‖; frequency: share of the corpus in this combination. "
_EFFECT = (
    "effect: on the target's logit less the mean logit, norms frozen, not by way of later layers; share: of the sum of "
    "|effect|; target_rank: control, the target's place among all tokens that this neuron moves in that direction. "
)


def activate_text(
    index: Index,
    asks: Asks,
    text: str,
    *,
    neurons: Sequence[str] | None = None,
    position: int | None = None,
    target: str | None = None,
    combination: str | None = None,
    layers: Sequence[int] | None = None,
    limit: int | None = None,
    response_format: Format = "concise",
) -> Activated:
    """Given neurons at the tokens of a text, or else the strongest neurons of one of its tokens.

    Raises:
        UsageError: arguments that do not go together, or cannot be understood.
        NeuronagentError: the model cannot be asked.
    """
    if combination is not None:
        SignCombination.parse(combination)
    rows = checked_limit(limit, 12 if response_format == "concise" else 50)
    room = budget(response_format, limit)
    if neurons is None:
        asked = {"text": text, "position": position, "combination": combination, "layers": layers, "limit": rows}
        if target is None:
            return _top(index, asks.call("top_neurons", **asked), room)
        return _effects(index, asks.call("attribute", target=target, **asked), room, response_format == "detailed")
    if target is not None or layers is not None:
        name = "layers" if target is None else "target"
        raise UsageError(f"with neurons there is no {name}", remedy="leave neurons out to rank all neurons of a token")
    if not 1 <= len(neurons) <= MAX_NEURONS:
        raise UsageError(f"{len(neurons)} neurons are asked for", remedy=f"allowed: 1–{MAX_NEURONS} in one call")
    found: Activations = asks.call("activate", text=text, neurons=list(neurons))
    return _values(index, found, position, combination, rows, room)


def _values(
    index: Index, found: Activations, position: int | None, combination: str | None, rows: int, room: int
) -> Activated:
    """Each neuron's strongest tokens in the order of the text."""
    last = len(found.tokens) - 1
    places = range(found.first, last + 1)
    if position is not None:
        place = position + len(found.tokens) if position < 0 else position
        if place not in places:
            raise UsageError(f"position {str(position)[:20]} is not in the text", remedy=f"allowed: {places[0]}–{last}")
        places = range(place, place + 1)
    wanted = SignCombination.parse(combination).value if combination else None

    def render(size: tuple[int, bool]) -> Activated:
        shown = [_neuron(found, values, places, wanted, *size) for values in found.neurons]
        left_out = any(own.get("shown", 0) < own.get("of", 0) for own in shown)
        more = "Only the tokens with the largest |post| are shown, in the order of the text; for more name one neuron, "
        more += "a position, a combination, a limit or detailed. "
        return Activated(
            available=True,
            tokens=len(found.tokens) - found.first,
            neurons=shown,
            provenance=_provenance(index, found.dtype),
            note=(more if left_out else "") + (_BOS if found.first else "") + _STRONG + _DATA,
        )

    return fit(render, [*((count, True) for count in _sizes(rows)), (2, False), (1, False), (0, False)], room)


def _neuron(
    found: Activations, values: NeuronValues, places: Iterable[int], wanted: str | None, count: int, whole: bool
) -> LiveNeuron:
    """One neuron's row; not `whole` where many are asked for."""
    own = range(found.first, len(found.tokens))
    counts = Counter(values.combinations[p] or "zero" for p in own)
    held = [p for p in places if wanted is None or values.combinations[p] == wanted]
    chosen = sorted(sorted(held, key=lambda p: (-abs(values.post[p]), p))[:count])
    row = LiveNeuron(
        neuron=values.neuron,
        counts=dict(counts.most_common()),
        strong=sum(_strong(values, p) is True for p in own),
        shown=len(chosen),
        of=len(held),
        tokens=[_token(found, values, p, whole) for p in chosen],
    )
    if whole:
        row["io_class"] = values.io_class
        row["frequency"] = numbers({name: values.frequency[name] for name in counts if name in values.frequency})
    return row


def _token(found: Activations, values: NeuronValues, p: int, whole: bool) -> LiveTokenRow:
    row: LiveTokenRow = {
        "at": p,
        "token": clean(found.tokens[p], _TOKEN),
        "combination": values.combinations[p],
        "post": number(values.post[p]),
    }
    if whole:
        row["gate"], row["in"] = number(values.x_gate[p]), number(values.x_in[p])
        if _strong(values, p):
            row["strong"] = True
    return row


def _strong(values: NeuronValues, p: int) -> bool | None:
    tau = values.tau.get(values.combinations[p] or "")
    return None if tau is None else abs(values.post[p]) >= tau


def _top(index: Index, found: TopNeurons, room: int) -> Activated:
    """The strongest neurons of one token."""

    def render(count: int) -> Activated:
        shown = found.neurons[:count]
        return Activated(
            available=True,
            position=found.position,
            token=clean(found.tokens[-1], _TOKEN),
            total=found.total,
            top=[_row(row, effect=False) for row in shown],
            provenance=_provenance(index, found.dtype),
            note=f"{len(shown)} of {found.total:,} by |post|{_more(len(shown), found.total)}. "
            + _WRITTEN
            + _STRONG
            + _DATA,
        )

    return fit(render, _sizes(len(found.neurons)), room)


def _effects(index: Index, found: Attribution, room: int, detailed: bool) -> Activated:
    """The neurons with the largest direct effect on a token's logit, and what all parts of the model add to it."""

    def render(count: int) -> Activated:
        shown = found.neurons[:count]
        said = f"{len(shown)} of {found.ranked:,} by |effect|{_more(len(shown), found.ranked)}. "
        result = Activated(
            available=True,
            position=found.position,
            token=clean(found.tokens[-1], _TOKEN),
            target=clean(found.target, _TOKEN),
            predicted=clean(found.predicted, _TOKEN),
            next=numbers(
                {
                    "logit": found.logit,
                    "centred_logit": found.centred_logit,
                    "rank": found.rank,
                    "probability": found.probability,
                    "predicted_probability": found.predicted_probability,
                }
            ),
            total=found.ranked,
            top=[_row(row, effect=True) for row in shown],
            parts=numbers(
                {
                    "embedding": found.from_embedding,
                    "attention": found.from_attention,
                    "neurons": found.from_neurons,
                    "bias": found.from_bias,
                    "residual": found.residual,
                }
            ),
            provenance=_provenance(index, found.dtype),
            note=said + _EFFECT + "next: the target as next token; parts add up to centred_logit. " + _DATA,
        )
        if detailed:
            result["by_combination"] = {
                each.combination or "zero": numbers(
                    {"neurons": each.neurons, "effect": each.effect, "magnitude": each.magnitude}
                )
                for each in found.by_combination
            }
            result["by_layer"] = [
                numbers({"layer": each.layer, "neurons": each.neurons, "attention": each.attention})
                for each in sorted(found.by_layer, key=lambda each: -abs(each.neurons))[:12]
            ]
        return result

    return fit(render, _sizes(len(found.neurons)), room)


def _row(found: TokenNeuron, *, effect: bool) -> LiveTokenRow:
    row: LiveTokenRow = {
        "neuron": found.neuron,
        "combination": found.combination,
        "post": number(found.post),
        "frequency": number(found.frequency),
    }
    if found.strong:
        row["strong"] = True
    if effect:
        row["effect"], row["share"] = number(found.effect), number(found.share)
        row["target_rank"] = found.target_rank
    else:
        row["io_class"], row["written"] = found.io_class, number(found.written)
        row["gate"], row["in"] = number(found.x_gate), number(found.x_in)
    return row


def _sizes(most: int) -> list[int]:
    """Counts of rows to try, from all to none in steps that become smaller."""
    sizes = [most]
    while sizes[-1]:
        sizes.append(min(sizes[-1] - 1, sizes[-1] * 6 // 7))
    return sizes


def _more(shown: int, total: int) -> str:
    return "; for more narrow by layers or combination, or give a limit" if shown < total else ""


def _provenance(index: Index, dtype: str) -> str:
    return f"{provenance(index)}; model run in {dtype}"
