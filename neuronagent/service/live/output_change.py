"""What a neuron really does to the logits in one sign combination, beside what its weights say.

At the last token of random windows of the corpus `post` is set to the sign-correct 99.9 % quantile of the combination,
whatever it is there; gate and in are left alone. The change of a token's logit, less the mean change over the
vocabulary, is averaged over the windows: later layers, norms and the soft-cap have all had their say. Windows are of
the `select` split, which no writer has seen and no test item is from; each token of it is as likely as any other to be
a window's last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, SignCombination, Split, Text
from neuronagent.errors import ModelError
from neuronagent.explain.quantiles import signed_quantile
from neuronagent.service.live.model import LiveModel
from neuronagent.service.scoring import seed_of

if TYPE_CHECKING:
    import torch

    from neuronagent.models.gated import GatedModel

WINDOWS, LENGTH = 32, 64
"""How many windows, and their tokens at most, BOS included."""
QUANTILE = 0.999
_DRAWS = 40  # rounds of drawing tokens until enough of them are in the split
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class OutputChange:
    """`direct` `[V]`: sign · W_U·w_out, NaN where the tokenizer has no token. `measured` `[V]`: the mean change of the
    centred logit over `windows` windows when `post` (the index's sign) was set; None, with the `reason`, where it could
    not be measured."""

    direct: NDArray[np.float32]
    measured: NDArray[np.float32] | None
    post: float | None
    windows: int
    reason: str | None = None


def output_change(
    live: LiveModel, neuron: NeuronId | str, combination: SignCombination | str, *, windows: int = WINDOWS
) -> OutputChange:
    """What `neuron` does to every logit in `combination`.

    Raises:
        NotFoundError: no such neuron.
        ModelError: logits that are not finite.
    """
    own = live.neuron_id(neuron)
    c = combination if isinstance(combination, SignCombination) else SignCombination.parse(combination)
    record = live.index.reader.neuron(own)
    direct = _direct(live, own, record.sign * c.write_sign)
    held = record.combinations.get(c)
    post = None if held is None else signed_quantile(held, QUANTILE)
    if post is None:
        return OutputChange(direct=direct, measured=None, post=None, windows=0, reason=f"no token is in {c.value}")
    texts = _windows(live, windows, seed_of(own, c))
    if not texts:
        return OutputChange(direct=direct, measured=None, post=post, windows=0, reason="the select split has no tokens")
    measured = _measured(live, own, post * record.sign, texts)
    measured[np.isnan(direct)] = np.nan
    return OutputChange(direct=direct, measured=measured, post=post, windows=len(texts))


def _direct(live: LiveModel, neuron: NeuronId, sign: int) -> NDArray[np.float32]:
    post_norm = live.index.info.get("post_norm", "folded")
    out = live.model.processed_layer(neuron.layer, post_norm=post_norm).w_out[neuron.index]
    logits = (sign * _unembedding(live.model) @ out).numpy()
    logits[[number for number, data in enumerate(live.model.token_bytes()) if data is None]] = np.nan
    return logits


@lru_cache(maxsize=1)
def _unembedding(model: GatedModel) -> torch.Tensor:
    """`[V, d_model]`, read from the file once: of a large model that takes seconds."""
    return model.unembedding()


def _windows(live: LiveModel, wanted: int, seed: int) -> list[list[int]]:
    """Token ids of windows that end at random tokens of `select`, BOS first where the corpus's texts have it."""
    reader, generator = live.index.reader, np.random.default_rng(seed)
    total = int((live.index.info.get("corpus") or {}).get("tokens") or 0)
    found: list[list[int]] = []
    for _ in range(_DRAWS if total else 0):
        places = [reader.locate(number) for number in generator.integers(0, total, 4 * wanted).tolist()]
        texts = reader.texts_of(text_id for text_id, _ in places)
        found += [
            _window(live, texts[text_id], position)
            for text_id, position in places
            if texts[text_id].split is Split.SELECT and position
        ]
        if len(found) >= wanted:
            break
    return found[:wanted]


def _window(live: LiveModel, text: Text, position: int) -> list[int]:
    length, bos = min(LENGTH, live.max_tokens), [] if live.bos is None else [live.bos]
    return [*bos, *text.token_ids[len(bos) : position + 1][-(length - len(bos)) :]]


def _measured(live: LiveModel, neuron: NeuronId, post: float, texts: list[list[int]]) -> NDArray[np.float32]:
    """The mean change of the centred logits `[V]` at the last token; `post` in the model's sign."""
    total: torch.Tensor | None = None
    for start in range(0, len(texts), _BATCH):
        change = _batch(live, neuron, post, texts[start : start + _BATCH])
        total = change if total is None else total + change
    assert total is not None
    mean = total / len(texts)
    return (mean - mean.mean()).float().cpu().numpy()


def _batch(live: LiveModel, neuron: NeuronId, post: float, texts: list[list[int]]) -> torch.Tensor:
    """The sum of the changes over some windows, `[V]` float64."""
    import torch

    ids = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    rows, last = torch.arange(len(texts)), torch.tensor([len(text) - 1 for text in texts])

    def change(before: torch.Tensor, _gate: torch.Tensor, _in: torch.Tensor, _first: int) -> torch.Tensor:
        changed = before.clone()
        changed[rows.to(before.device), last.to(before.device), neuron.index] = post
        return changed

    plain, other = (
        live.model.logits(live.model.run(ids, changes=changes)[rows, last]).double()
        for changes in ({}, {neuron.layer: change})
    )
    found = (other - plain).sum(dim=0)
    if not bool(torch.isfinite(found).all()):
        raise ModelError(f"the logits are not finite when {neuron} writes {abs(post):.4g}")
    return found
