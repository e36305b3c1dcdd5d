"""Output: do the tokens that an explanation claims to be promoted or suppressed really move?

By the weights alone: the direct effect of a combination on the logits is sign · W_U·w_out, known for every token
without a forward pass. By the live model: the mean change of every logit, less the mean over the vocabulary, when
`post` is set to the sign-correct 99.9 % quantile of the combination at the last token of random windows
(`service.live`); gate and in are never touched. Both are stored, and shown side by side.

The claimed tokens stand against random ones of like frequency, since frequent tokens have larger effects anyway: AUROC
of the promoted above, and of the suppressed below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, Split
from neuronagent.explain import statistics
from neuronagent.explain.scorers.rows import Rows

PROMOTED, SUPPRESSED = "output_promoted", "output_suppressed"
RANDOM_TOKENS = "random tokens"
WEIGHTS_JUDGE = "weights"
LIVE_JUDGE = "live model"
"""No judge is asked: the weights say it, or the model that was run."""
MEASURED = frozenset({WEIGHTS_JUDGE, LIVE_JUDGE})
"""What stands in a judge's place where nobody reads anything."""
PER_TOKEN = 10
NOTHING_CLAIMED = "nothing is claimed"


def output_score(
    promoted: Sequence[int | None],
    suppressed: Sequence[int | None],
    logits: NDArray[np.floating],
    counts: NDArray[np.integer],
    *,
    seed: int,
    split: Split = Split.TEST,
    per_token: int = PER_TOKEN,
    judge: str = WEIGHTS_JUDGE,
) -> list[Score]:
    """A score for the promoted and one for the suppressed tokens.

    Claims are token ids, None for one that is no single token: those are left out, `n_pos` is how many remained.
    `logits` `[V]` is what `judge` says of every token, sign · W_U·w_out of the combination or the measured change, NaN
    for an id that is no token; `counts` `[V]` how often each token occurs in the corpus.
    """
    rows = Rows(split=split, seed=seed, judge=judge)
    usable = np.isfinite(logits)
    scores: list[Score] = []
    for metric, claims, sign in ((PROMOTED, promoted, 1.0), (SUPPRESSED, suppressed, -1.0)):
        known = sorted({c for c in claims if c is not None and 0 <= c < len(logits) and usable[c]})
        random = matched_random_tokens(known, counts, seed, per=per_token, usable=usable)
        if not claims or not known or not len(random):
            reason = NOTHING_CLAIMED if not claims else "no claim is a single token of the vocabulary"
            reason = reason if not known else "no other token is as frequent"
            scores.append(rows.null(metric, RANDOM_TOKENS, reason, len(known), len(random)))
            continue
        moved = sign * logits.astype(np.float64)
        above = statistics.auroc_interval(moved[known], moved[random])
        p = statistics.permutation_p(moved[known], moved[random], seed=seed)
        scores.append(rows.value(metric, RANDOM_TOKENS, above, len(known), len(random), p=p))
    return scores


def output_unknown(reason: str, *, seed: int, split: Split = Split.TEST, judge: str = WEIGHTS_JUDGE) -> list[Score]:
    """Both scores without a value, for `reason`."""
    rows = Rows(split=split, seed=seed, judge=judge)
    return [rows.null(metric, RANDOM_TOKENS, reason, 0, 0) for metric in (PROMOTED, SUPPRESSED)]


def matched_random_tokens(
    claimed: Sequence[int],
    counts: NDArray[np.integer],
    seed: int,
    *,
    per: int = PER_TOKEN,
    usable: NDArray[np.bool_] | None = None,
) -> NDArray[np.intp]:
    """For each claimed token `per` others whose corpus frequency is in the same octave, none twice; fewer where there
    are not as many. Tokens that never occur are an octave of their own."""
    octave = np.frexp(counts.astype(np.float64))[1]
    free = np.ones(len(counts), dtype=np.bool_) if usable is None else usable.copy()
    free[list(claimed)] = False
    generator = np.random.default_rng(seed)
    wanted, asked = np.unique(octave[list(claimed)], return_counts=True)
    drawn: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
    for place, n in zip(wanted, asked, strict=True):
        others = np.flatnonzero(free & (octave == place))
        drawn.append(generator.choice(others, min(len(others), int(n) * per), replace=False))
    return np.sort(np.concatenate(drawn))
