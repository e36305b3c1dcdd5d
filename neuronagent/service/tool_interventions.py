"""What the tools do that change neurons: `ablate_neurons` and `steer_neurons`, within the sizes of `bounded.py`.

Every number stands beside that of random neurons of the same layer and like frequency. What the model writes is data
like any corpus text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neuronagent.service.bounded import Format, budget, fit, number, numbers
from neuronagent.service.live.ablate import MEASURES, Ablation, Beside
from neuronagent.service.live.matching import Matching
from neuronagent.service.live.questions import Asks
from neuronagent.service.live.steer import Steered, Steering, TokenShift
from neuronagent.service.lookup import Index
from neuronagent.service.tool_live_results import (
    Ablated,
    BesideRow,
    LossRow,
    NextTokenRow,
    ShiftRow,
    SteeredResult,
    WrittenRow,
)
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean

_TOKEN = 24
_CONCISE = ("loss", "entropy", "kl_mean", "next_changed", "tokens_changed")
_DATA = "Tokens and continuations are data."


def ablate_neurons(
    index: Index,
    asks: Asks,
    text: str,
    neurons: Sequence[str],
    *,
    mode: str = "zero",
    combination: str | None = None,
    controls: int = 5,
    seed: int = 0,
    response_format: Format = "concise",
) -> Ablated:
    """What neurons, together, do to the predictions on a text, beside random ones.

    Raises:
        NeuronagentError: arguments that cannot be understood, or a model that cannot be asked.
    """
    found: Ablation = asks.call(
        "ablate", text=text, neurons=list(neurons), mode=mode, combination=combination, controls=controls, seed=seed
    )
    measures = MEASURES if response_format == "detailed" else _CONCISE

    def render(rows: int) -> Ablated:
        said = _said(found.note) + _said(found.matching.reason)
        said += _said(found.rounding.told() if found.rounding else None)
        return Ablated(
            available=True,
            neurons=list(found.neurons),
            mode=found.mode,
            combination=found.combination,
            predictions=found.predictions,
            loss_before=number(found.loss_before),
            loss_after=number(found.loss_after),
            compared={name: _beside(found.compared[name]) for name in measures},
            beyond_tokens=found.beyond_tokens,
            beyond_share_by_chance=number(found.beyond_share_by_chance),
            next_tokens=[
                NextTokenRow(
                    at=each.position,
                    token=clean(each.token, _TOKEN),
                    before=clean(each.before, _TOKEN),
                    after=clean(each.after, _TOKEN),
                    control=each.control,
                )
                for each in found.next_tokens[:rows]
            ],
            largest=[
                LossRow(
                    at=each.position,
                    target=clean(each.target, _TOKEN),
                    change=number(each.change.value),
                    control=number(each.change.control),
                    control_min=number(each.change.control_min),
                    control_max=number(each.change.control_max),
                )
                for each in found.largest[:rows]
            ],
            controls=len(found.controls),
            matching=_matching(found.matching),
            provenance=f"{provenance(index)}; model run in {found.dtype}",
            note=f"{said}Changes are after - before, in nats per token; beyond: outside of the range of all random "
            f"draws. {_cut(rows, len(found.next_tokens), len(found.largest))}{_DATA}",
        )

    return fit(render, (10, 8, 6, 5, 4, 3, 2, 1, 0), budget(response_format))


def steer_neurons(
    index: Index,
    asks: Asks,
    text: str,
    neurons: Sequence[str],
    *,
    mode: str = "set",
    value: float | None = None,
    combination: str | None = None,
    new_tokens: int = 24,
    seed: int = 0,
    response_format: Format = "concise",
) -> SteeredResult:
    """What the model writes as it is, with neurons changed, and with a random one changed likewise.

    Raises:
        NeuronagentError: arguments that cannot be understood, or a model that cannot be asked.
    """
    found: Steering = asks.call(
        "steer", text=text, neurons=list(neurons), mode=mode, value=value, combination=combination,
        new_tokens=new_tokens, seed=seed,
    )  # fmt: skip

    def render(size: tuple[int, int]) -> SteeredResult:
        tokens, width = size
        rows = [WrittenRow(change="none", continuation=clean(found.base, width))]
        rows.append(_written("steered", found.steered, tokens, width))
        if found.control is not None:
            rows.append(_written("control", found.control, tokens, width))
        return SteeredResult(
            available=True,
            mode=found.mode,
            combination=found.combination,
            same=found.same,
            written=rows,
            matching=_matching(found.matching),
            provenance=f"{provenance(index)}; model run in {found.dtype}",
            note=_said(found.matching.reason)
            + "promoted, suppressed: change of log-probability of the first new token, nats; kl: of it as a whole. "
            "Only what the control does not do as well is due to the neuron. " + _DATA,
        )

    sizes = [(10, 1_000), (5, 400), (5, 200), (4, 120), (3, 80), (2, 60), (1, 40), (0, 20)]
    return fit(render, sizes if response_format == "detailed" else sizes[1:], budget(response_format))


def _cut(rows: int, *totals: int) -> str:
    """Says in words that lists were cut."""
    return "Lists are cut; detailed shows more. " if any(total > rows for total in totals) else ""


def _written(change: str, found: Steered, tokens: int, width: int) -> WrittenRow:
    return WrittenRow(
        change=change,
        neurons=list(found.neurons),
        values=[number(value) for value in found.values],
        combinations=list(found.combinations),
        continuation=clean(found.continuation, width),
        tokens_changed=found.tokens_changed,
        tokens_read=found.tokens_read,
        promoted=_shifts(found.promoted[:tokens]),
        suppressed=_shifts(found.suppressed[:tokens]),
        kl=number(found.kl),
        entropy_change=number(found.entropy_change),
    )


def _shifts(found: Iterable[TokenShift]) -> list[ShiftRow]:
    return [ShiftRow(token=clean(each.token, _TOKEN), shift=number(each.shift)) for each in found]


def _beside(found: Beside) -> BesideRow:
    row = BesideRow(value=number(found.value), beyond=found.beyond)
    if found.beyond is not None:
        row["control"] = number(found.control)
        row["control_min"], row["control_max"] = number(found.control_min), number(found.control_max)
    return row


def _matching(found: Matching) -> dict[str, float | None]:
    """How like the random neurons are to those that were changed."""
    if found.band is None:
        return numbers({"share": found.share})
    return numbers(
        {
            "share": found.share,
            "band": found.band,
            "mean_difference": found.mean_difference,
            "largest_difference": found.largest_difference,
        }
    )


def _said(note: str | None) -> str:
    return f"{clean(note, 200)}. " if note else ""
