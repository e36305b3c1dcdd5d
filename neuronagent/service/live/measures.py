"""What a change does to a model's predictions, token by token.

At a position the model predicts the next token. With log-probabilities lp before and lq after the change, in nats:

    loss      −lp[t] and −lq[t], t the token that really follows
    entropy   −Σ p·lp and −Σ q·lq
    KL        Σ p·(lp − lq), the divergence of what is predicted afterwards from what was predicted before
    rank      1 + how many tokens have a larger logit than t

Logits are made a few positions at a time (a vocabulary may have 256,000 tokens), softmax and sums are float64. The same
numbers in give the same bits out: where a change does nothing, every difference is exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronagent.errors import ModelError

if TYPE_CHECKING:
    import torch

    from neuronagent.models.gated import GatedModel

NO_TARGET = -1
_LOGITS_AT_ONCE = 2**22
_LOGITS_AT_ONCE_CUDA = 2**26


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """By position `[P]`: `loss` (NaN without a target), `entropy`, `kl` (0 before the change), `rank` of the target (0
    without one), the most likely next token `top` and its probability `top_p`."""

    loss: NDArray[np.float64]
    entropy: NDArray[np.float64]
    kl: NDArray[np.float64]
    rank: NDArray[np.int64]
    top: NDArray[np.int64]
    top_p: NDArray[np.float64]


def predicted(
    model: GatedModel, before: torch.Tensor, after: Sequence[torch.Tensor], targets: torch.Tensor
) -> tuple[Predicted, list[Predicted]]:
    """Predictions before a change and after each of several, from final residual streams `[P, d_model]` as
    `GatedModel.run` returns them, and the tokens that follow, `targets` `[P]`, `NO_TARGET` where none does.

    Raises:
        ModelError: logits that are not finite.
    """
    import torch

    rows = max(1, (_LOGITS_AT_ONCE_CUDA if before.is_cuda else _LOGITS_AT_ONCE) // model.vocab_size)
    found: list[list[dict[str, NDArray[np.float64]]]] = [[] for _ in range(1 + len(after))]
    with torch.inference_mode():
        for start in range(0, len(before), rows):
            part = slice(start, start + rows)
            clean = _log_softmax(model.logits(before[part]))
            p = clean.exp()
            for place, final in enumerate((before, *after)):
                changed = _log_softmax(model.logits(final[part])) if place else clean
                found[place].append(_measured(changed, clean, p, targets[part]))
    first, *others = [_joined(parts) for parts in found]
    if not all(np.isfinite(each.kl).all() and np.isfinite(each.entropy).all() for each in (first, *others)):
        raise _not_finite(model)
    return first, others


def log_probabilities(model: GatedModel, final: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the next token `[…, vocabulary]`, float64.

    Raises:
        ModelError: logits that are not finite.
    """
    logits = model.logits(final)
    if not bool(logits.isfinite().all()):
        raise _not_finite(model)
    return _log_softmax(logits)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    on_mps = logits.device.type == "mps"  # which has no float64
    return (logits.cpu() if on_mps else logits).double().log_softmax(-1)


def _not_finite(model: GatedModel) -> ModelError:
    return ModelError(
        f"the logits of {model.name} are not finite after this change", remedy="change less, or use float32"
    )


def _measured(
    changed: torch.Tensor, clean: torch.Tensor, p: torch.Tensor, targets: torch.Tensor
) -> dict[str, NDArray[np.float64]]:
    """One part of `Predicted`; a logit that is not finite makes entropy or KL NaN."""
    import torch

    targets = targets.to(changed.device)
    there = targets != NO_TARGET
    own = changed.gather(-1, targets.clamp_min(0)[:, None])
    q = p if changed is clean else changed.exp()
    top_p, top = q.max(-1)
    dot = torch.linalg.vecdot
    measured = {
        "loss": (-own[:, 0]).masked_fill(~there, float("nan")),
        "entropy": -dot(q, changed),
        "kl": (dot(p, clean) - dot(p, changed)).clamp_min(0.0),
        "rank": ((changed > own).sum(-1) + 1) * there,
        "top": top,
        "top_p": top_p,
    }
    return {name: values.cpu().numpy() for name, values in measured.items()}


def _joined(parts: Sequence[dict[str, NDArray[np.float64]]]) -> Predicted:
    def joined(name: str) -> NDArray[np.float64]:
        return np.concatenate([part[name] for part in parts]) if parts else np.zeros(0)

    return Predicted(
        loss=joined("loss"),
        entropy=joined("entropy"),
        kl=joined("kl"),
        rank=joined("rank").astype(np.int64),
        top=joined("top").astype(np.int64),
        top_p=joined("top_p"),
    )
