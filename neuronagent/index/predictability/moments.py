"""How well predictors foretell a layer's neurons, by sums over tokens and documents, with intervals over documents.

Of each document d, neuron and predictor seven sums are made, of g (post, less a constant), of the error e = g − ĝ and
of the error t of the token baseline:

    s_d = (n, Σg, Σg², Σe, Σe², Σge, Σt²)

Only Σ_d s_d and Σ_d s_d s_dᵀ are kept: memory does not grow with the documents. Errors are summed, not predictions:
R² near 1 keeps its digits. Every score is a function h of S = Σ s_d that does not change when S is doubled, so that by
the delta method, with documents as clusters,

    Var h(S) ≈ (1 + 1/ν)² Σ_d (∇h · s_d)² = (1 + 1/ν)² ∇hᵀ (Σ s_d s_dᵀ) ∇h,    ν = (Σn_d)² ÷ Σn_d² − 1

and the interval is h ± t(ν)·SE, on the scale on which h is nearest to normal: log Σe² for the RMSE, log(1 − R²),
Fisher's z for Pearson, R² itself for the lift. ν + 1 is what documents of unlike length are worth (Kish), their number
where they are equally long; ν is never taken as below 1. Of the two factors 1 + 1/ν one makes the variance of a sample
that of its source, the other is for each document's own pull on h (as HC3 has it).

Measured coverage of 95 %, mean and least over R² .01, .3, .6, .9 and .99 (1,500 simulated neurons each at 5 and 10
documents, else 750; values correlated within documents, whose scales differ by a third); *even*: equally long;
*ragged*: log-normal lengths, σ = 1; *heavy*: tokens log-normally scaled, kurtosis 21:

                        RMSE         R²           Pearson      lift
    even          5     .945 .941    .956 .936    .947 .939    .947 .937
                 10     .933 .925    .953 .931    .945 .935    .948 .940
                 50     .934 .917    .952 .940    .949 .940    .944 .935
    even, heavy   5     .935 .929    .951 .939    .942 .938    .939 .929
                 10     .922 .912    .950 .938    .943 .940    .935 .914
                 50     .933 .921    .950 .939    .945 .939    .941 .936
    ragged        5     .973 .957    .979 .963    .976 .959    .970 .961
                 10     .955 .936    .969 .952    .959 .948    .958 .936
                 20     .934 .923    .955 .937    .945 .937    .947 .928
    ragged, heavy 5     .961 .946    .972 .961    .967 .960    .964 .949
                 20     .927 .919    .947 .932    .937 .932    .935 .927
                 50     .919 .904    .943 .923    .936 .917    .936 .925

With one factor instead of two they cover up to .02 less at ten documents and fewer. The RMSE falls short the most: its
own scale, not only what is foretold of it, hangs on the loudest documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.predictability.intervals import student_quantile
from neuronagent.predictability.scores import TOKEN, PredictorScores

_COUNT, _G, _GG, _E, _EE, _GE, _TT = range(7)
_SUMS = 7
_NO_VARIANCE = 1e-12
"""A prediction of less variance than this share of the neuron's is rounding: it has no correlation."""
_STEEP = 0.5
"""From this |r| on Fisher's z follows log(1 − r²)."""
_PIECE = 1 << 14
"""Values at a time on a CPU: what its cache holds, and too few for torch to wait for other threads."""
_WIDEST = 80.0
"""As wide as half an interval on a scale of logarithms is made: float32 must hold the limits."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Totals:
    """Σ s_d `[7, N]`, Σ s_d s_dᵀ `[7, 7, N]`, the number of documents, and which neurons vary `[N]`; `centre` `[N]` is
    what was taken off g."""

    sums: Floats
    products: Floats
    documents: int
    varies: NDArray[np.bool_]
    centre: Floats


class Moments:
    """Sums of one layer's neurons for several predictors. Tokens come document by document: the last document of a
    batch may go on in the next."""

    def __init__(self, predictors: Sequence[str], centre: Tensor) -> None:
        """`centre` `[N]` float64, about each neuron's mean: it takes nothing but rounding errors away. Sums are where
        it is."""
        self.predictors, self.centre = tuple(predictors), centre
        n, device = len(centre), centre.device
        self._sums = torch.zeros(len(self.predictors), _SUMS, n, dtype=torch.float64, device=device)
        self._products = torch.zeros(len(self.predictors), _SUMS, _SUMS, n, dtype=torch.float64, device=device)
        self._open = torch.zeros(len(self.predictors), _SUMS, n, dtype=torch.float64, device=device)
        self._least, self._most = (torch.full_like(centre, bound) for bound in (torch.inf, -torch.inf))
        self._document: int | None = None
        self._closed: set[int] = set()

    @staticmethod
    def bytes_needed(predictors: int, neurons: int) -> int:
        """What the sums of a layer take."""
        return predictors * neurons * 8 * (2 * _SUMS + _SUMS * _SUMS)

    def update(self, documents: NDArray[np.int64], post: Tensor, predicted: Mapping[str, Tensor]) -> None:
        """Take in T tokens: their documents, `post` `[T, N]` and what each predictor said, `[T, N]` or `[N]`.

        Raises:
            ValueError: tokens of a document that had ended.
        """
        post = post.to(self.centre.device)
        most = max(1, _PIECE // post.shape[1]) if post.device.type == "cpu" else len(documents)
        for start, stop in _pieces(documents, most):
            values = post[start:stop].double()
            own = {name: p[start:stop] if p.ndim > 1 else p for name, p in predicted.items()}
            errors = {name: values - own[name].to(values) for name in {TOKEN, *self.predictors}}
            g = values - self.centre
            self._least, self._most = torch.minimum(self._least, g.amin(0)), torch.maximum(self._most, g.amax(0))
            self._go_on(int(documents[start]))
            shared = (
                (_COUNT, stop - start),
                (_G, g.sum(0)),
                (_GG, _dots(g, g)),
                (_TT, _dots(errors[TOKEN], errors[TOKEN])),
            )
            for sums, name in zip(self._open.unbind(), self.predictors, strict=True):
                e = errors[name]
                for place, found in (*shared, (_E, e.sum(0)), (_EE, _dots(e, e)), (_GE, _dots(g, e))):
                    sums[place] += found

    def _go_on(self, document: int) -> None:
        """What follows is of `document`."""
        if document != self._document:
            self._close()
            if document in self._closed:
                raise ValueError(f"document {document} goes on after others")
            self._document = document

    def _close(self) -> None:
        """The open document is over."""
        if self._document is None:
            return
        self._closed.add(self._document)
        self._sums += self._open
        self._products += self._open[:, :, None] * self._open[:, None]
        self._open.zero_()
        self._document = None

    def scores(self) -> dict[str, PredictorScores]:
        """The scores of every predictor, of all that was taken in; nothing can be added after."""
        self._close()
        varies, centre = (self._most > self._least).cpu().numpy(), self.centre.cpu().numpy()
        sums, products = self._sums.cpu().numpy(), self._products.cpu().numpy()
        return {
            name: scores_of(Totals(sums[place], products[place], len(self._closed), varies, centre))
            for place, name in enumerate(self.predictors)
        }


def _pieces(documents: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """The runs of tokens of one document, cut into pieces of at most `most`."""
    if not len(documents):
        return []
    starts = [0, *(np.flatnonzero(np.diff(documents)) + 1).tolist()]
    runs = zip(starts, [*starts[1:], len(documents)], strict=True)
    return [(at, min(at + most, stop)) for start, stop in runs for at in range(start, stop, most)]


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·b over tokens, `[N]`."""
    return (a * b).sum(0)


def scores_of(totals: Totals) -> PredictorScores:
    """All scores of one predictor: NaN for a neuron that never varies, Pearson NaN also where the prediction does not,
    intervals NaN with fewer than two documents."""
    estimate = _Estimate(totals)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rmse, r2 = estimate.rmse(), estimate.r2()
        pearson, lift = estimate.pearson(), estimate.lift()
    return PredictorScores(
        rmse=rmse[0], rmse_lo=rmse[1], rmse_hi=rmse[2],
        r2=r2[0], r2_lo=r2[1], r2_hi=r2[2],
        pearson=pearson[0], pearson_lo=pearson[1], pearson_hi=pearson[2],
        lift=lift[0], lift_lo=lift[1], lift_hi=lift[2],
        mean=estimate.mean_g + totals.centre, variance=estimate.v_g / estimate.n,
    )  # fmt: skip


Limits = tuple[Floats, Floats, Floats]


class _Estimate:
    """One predictor's scores; a gradient is `[7, N]`, by the sums."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self.sums = totals.sums
        self.n = totals.sums[_COUNT]
        self._known = totals.documents > 1
        worth = float(self.n[0] ** 2 / totals.products[_COUNT, _COUNT, 0]) if self._known else 0.0
        df = max(1.0, worth - 1)
        self._reach = student_quantile(df) * (1 + 1 / df) if self._known else float("nan")
        self.mean_g, self.mean_e = totals.sums[_G] / self.n, totals.sums[_E] / self.n
        varies = totals.varies
        self.v_g = np.where(varies, totals.sums[_GG] - self.n * self.mean_g**2, 0.0)
        self.v_e = totals.sums[_EE] - self.n * self.mean_e**2
        self.c_ge = totals.sums[_GE] - self.n * self.mean_g * self.mean_e
        self._given = varies & ((self.v_g / self.n).astype(np.float32) > 0)  # as it is stored

    def _error(self, gradient: Floats) -> Floats:
        """t·SE of what has this gradient."""
        squares = np.einsum("an,abn,bn->n", gradient, self._totals.products, gradient, optimize=True)
        return self._reach * np.sqrt(np.maximum(squares, 0.0))

    def _gradient(self, **by_sum: Floats) -> Floats:
        found = np.zeros_like(self.sums)
        for name, values in by_sum.items():
            found[_PLACES[name]] = values
        return found

    def _of_v_g(self) -> Floats:
        return self._gradient(gg=np.ones_like(self.n), g=-2 * self.mean_g, n=self.mean_g**2)

    def _of_v_e(self) -> Floats:
        return self._gradient(ee=np.ones_like(self.n), e=-2 * self.mean_e, n=self.mean_e**2)

    def _of_c_ge(self) -> Floats:
        return self._gradient(
            ge=np.ones_like(self.n), g=-self.mean_e, e=-self.mean_g, n=self.mean_g * self.mean_e
        )  # fmt: skip

    def rmse(self) -> Limits:
        ee = self.sums[_EE]
        half = self._error(self._gradient(ee=1 / ee, n=-1 / self.n)) / 2
        half = np.where((ee == 0) & self._known, 0.0, np.minimum(half, _WIDEST))
        value = np.sqrt(ee / self.n)
        return value, value * np.exp(-half), value * np.exp(half)

    def r2(self) -> Limits:
        unexplained = np.where(self._given, self.sums[_EE] / self.v_g, np.nan)
        half = self._error(self._gradient(ee=1 / self.sums[_EE]) - self._of_v_g() / self.v_g)
        half = np.where((unexplained == 0) & self._known, 0.0, np.minimum(half, _WIDEST))
        return 1 - unexplained, 1 - unexplained * np.exp(half), 1 - unexplained * np.exp(-half)

    def lift(self) -> Limits:
        ee, tt = self.sums[_EE], self.sums[_TT]
        value = np.where(self._given, (tt - ee) / self.v_g, np.nan)
        gradient = self._gradient(tt=1 / self.v_g, ee=-1 / self.v_g) - value / self.v_g * self._of_v_g()
        products = self._totals.products
        same = (products[_EE, _EE] == products[_EE, _TT]) & (products[_TT, _TT] == products[_EE, _TT])
        half = np.where(same & self._given & self._known, 0.0, self._error(gradient))
        return value, value - half, value + half

    def pearson(self) -> Limits:
        """Fisher's z by 1 − r² = (V_g V_e − C²) ÷ (V_g V_ĝ), C the covariance of g and e, which keeps its digits near
        r = 1."""
        v_g, v_e, c = self.v_g, self.v_e, self.c_ge
        v_p = v_g - 2 * c + v_e
        given = self._given & (v_p > _NO_VARIANCE * v_g)
        root = np.sqrt(np.where(given, v_g * v_p, np.nan))
        r = np.clip((v_g - c) / root, -1.0, 1.0)
        left = np.maximum(v_g * v_e - c**2, 0.0)
        z = np.sign(r) * (np.log1p(np.abs(r)) - np.log(left / root**2) / 2)
        of_g, of_p = self._of_v_g(), self._of_v_g() - 2 * self._of_c_ge() + self._of_v_e()
        log_left = (v_g * self._of_v_e() + v_e * of_g - 2 * c * self._of_c_ge()) / left - of_g / v_g - of_p / v_p
        flat = (of_g - self._of_c_ge()) / root - r / 2 * (of_g / v_g + of_p / v_p)
        half = self._error(np.where(np.abs(r) > _STEEP, -log_left / (2 * r), flat / (left / root**2)))
        lo, hi = np.tanh(z - half), np.tanh(z + half)
        certain = given & (left == 0) & self._known
        lo, hi = (np.where(certain, r, limit) for limit in (lo, hi))
        return r, np.minimum(lo, r), np.maximum(hi, r)


_PLACES = {"n": _COUNT, "g": _G, "gg": _GG, "e": _E, "ee": _EE, "ge": _GE, "tt": _TT}
