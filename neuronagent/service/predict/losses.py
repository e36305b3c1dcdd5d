"""The loss of every prediction that a model makes of a text's next token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.errors import ModelError
from neuronagent.models.gated import GatedModel
from neuronagent.service.devices import products
from neuronagent.service.predict.activations import BATCH_TOKENS, make_batch, plan_batches
from neuronagent.service.predict.properties import Flat
from neuronagent.service.predict.texts import TokenTexts

_LOGITS_AT_ONCE, _LOGITS_AT_ONCE_CUDA = 2**22, 2**26


def token_losses(
    model: GatedModel, texts: TokenTexts, flat: Flat, advance: Callable[[int], None], batch_tokens: int = BATCH_TOKENS
) -> NDArray[np.float64]:
    """By the number of a token `[n]`: −log of what the model gives, at it, to the token after it, in nats; NaN at the
    last token of a text. The whole text before it is read.

    Raises:
        ModelError: one that is not finite, or too little memory.
    """
    losses = np.full(len(flat), np.nan)
    done = 0
    with products("float32"), torch.inference_mode():
        for batch in plan_batches(texts, batch_tokens):
            rows = make_batch(texts, batch)
            made = rows.kept[:, :-1] & rows.kept[:, 1:]  # predictions of a real token, at one that counts
            if made.any():
                found = _of_batch(model, torch.from_numpy(rows.ids), torch.from_numpy(made))
                if not np.isfinite(found).all():
                    raise ModelError(f"the losses of {model.name} are not finite", remedy="use float32")
                row, position = np.nonzero(made)
                losses[flat.numbers(batch[row], position)] = found
            done += len(rows.places)
            advance(done)
    return losses


def _of_batch(model: GatedModel, ids: torch.Tensor, made: torch.Tensor) -> NDArray[np.float64]:
    """Where `made` `[B, T − 1]`, row by row; softmax in float32 as a loss is commonly computed."""
    try:
        return losses_at(model, model.run(ids), ids, made)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{model.device} ran out of memory on a batch of {ids.numel():,} tokens", remedy="lower --batch-tokens"
        ) from error


def losses_at(model: GatedModel, final: torch.Tensor, ids: torch.Tensor, made: torch.Tensor) -> NDArray[np.float64]:
    """−log of what a model gives to the next token where `made` `[B, T − 1]` says so, row by row, in nats, from what
    its head reads, `final` `[B, T, d_model]`; NaN where a logit is not finite. Logits are made a few positions at a
    time."""
    kept, targets = final[:, :-1][made.to(final.device)], ids[:, 1:][made]
    at_once = max(1, (_LOGITS_AT_ONCE_CUDA if kept.is_cuda else _LOGITS_AT_ONCE) // model.vocab_size)
    found: list[torch.Tensor] = []
    for part, own in zip(kept.split(at_once), targets.split(at_once), strict=True):
        logits = model.logits(part).float()
        wanted = logits.gather(1, own.to(logits.device)[:, None])[:, 0]
        found.append((logits.logsumexp(1) - wanted).double().cpu())
    return torch.cat(found).numpy()
