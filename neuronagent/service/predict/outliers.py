"""Outlier neurons (paper, appendix C.1): those with a value that is many times what values of their layer are.

The root mean square is over all values of the layer at the tokens that were read; position 0, where it is BOS, does not
count in it, but its value is looked at beside the others: extreme values are often there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuronagent import wording
from neuronagent.domain import NeuronId, token_text
from neuronagent.index.predictability.functional import Totals
from neuronagent.predictability.functional import OutlierNeuron
from neuronagent.service.predict.properties import Flat, TokenBytes
from neuronagent.service.predict.selection import Errors
from neuronagent.service.predict.texts import TokenTexts

Floats = NDArray[np.float64]
MOST = 200
"""Outliers of a layer that are kept, the largest first."""


def find_outliers(
    layer: int, totals: Totals, first: Floats | None, errors: Errors, flat: Flat, texts: TokenTexts,
    token_bytes: TokenBytes, bos: int | None, ratio: float,
) -> list[OutlierNeuron]:  # fmt: skip
    """Of one layer, the largest first; `first` `[N]` is post at BOS, None where texts do not begin with it."""
    at_tokens = np.abs(totals.extreme)
    at_bos = np.zeros_like(at_tokens) if first is None else np.abs(first)
    largest = np.maximum(at_tokens, at_bos)
    if not totals.rms > 0:
        return []
    found: list[OutlierNeuron] = []
    chosen = np.flatnonzero(largest >= ratio * totals.rms)
    for index in chosen[np.argsort(-largest[chosen], kind="stable")][:MOST].tolist():
        is_bos = first is not None and at_bos[index] > at_tokens[index]
        number = int(totals.place[index])
        text = int(flat.texts[number])
        token = bos if is_bos else int(flat.ids[number])
        value = first[index] if is_bos and first is not None else totals.extreme[index]
        l2, r2 = _number(float(errors.l2[index])), _number(float(errors.r2[index]))
        found.append(
            {
                "neuron": str(NeuronId(layer, index)),
                "value": float(value),
                "ratio": float(largest[index] / totals.rms),
                "others": float(at_tokens[index] / totals.rms),
                "place": "BOS" if is_bos else "token",
                "token": _word(token, token_bytes),
                "document": None if is_bos else texts.texts[text].document,
                "position": 0 if is_bos else int(flat.positions[number]),
                "l2": l2,
                "r2": r2,
                "l2_rank": _below(errors.l2, index),
                "reason": _reason(l2, r2, bool(totals.constant[index])),
            }
        )
    return found


def largest_ratio(totals: Totals, first: Floats | None) -> float | None:
    """Of the value of largest magnitude to the root mean square; None where all are 0."""
    if not totals.rms > 0:
        return None
    values = totals.extreme if first is None else np.concatenate([totals.extreme, first])
    return float(np.abs(values).max() / totals.rms)


def _word(token: int | None, token_bytes: TokenBytes) -> str:
    return "" if token is None else wording.token(token_text(token_bytes([token])[0]))


def _reason(l2: float | None, r2: float | None, constant: bool) -> str | None:
    if l2 is None:
        return "not scored"
    if r2 is not None:
        return None
    return "it never varies but at BOS" if constant else "it never varies on the tokens that were scored"


def _below(errors: Floats, index: int) -> float | None:
    known = errors[np.isfinite(errors)]
    if not np.isfinite(errors[index]) or len(known) < 2:
        return None
    return float((known < errors[index]).sum() / (len(known) - 1))


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
