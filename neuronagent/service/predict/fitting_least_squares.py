"""A pass of least squares: products summed up over `explain` and over `select`, then solved pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from neuronagent.domain import Split
from neuronagent.errors import Interrupted
from neuronagent.index.predictability.gram import Grams
from neuronagent.index.predictability.low_rank import low_rank
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.index.predictability.ridge import Solved, solve
from neuronagent.predictability.scores import Pair
from neuronagent.service.devices import products
from neuronagent.service.predict.fits import PairFacts
from neuronagent.service.predict.fitting import READ, Job, Solution, tokens_of
from neuronagent.service.predict.fitting_checkpoint import Checkpoint, Place

Sums = Mapping[Split, Grams]


def least_squares(
    job: Job, pairs: Sequence[Pair], wanted: Sequence[Pair], checkpoint: Checkpoint, said: str
) -> Iterator[Solution]:
    """The maps of `wanted`. Sums are made for all `pairs` of the pass, so that one that was stopped while it was solved
    has the same.

    Raises:
        Interrupted: Ctrl-C, with what was summed up kept.
        ModelError: values that are not finite.
    """
    sources, targets, shared = job.shape.sources, job.shape.targets, job.shape.shared
    sums = {split: Grams(pairs, sources, targets, shared=shared, device=job.device) for split in READ}
    with products("float32"):
        _sum_up(job, pairs, sums, checkpoint, said)
        job.progress.start(f"solving{said}", len(wanted), "pairs")
        for done, pair in enumerate(wanted):
            _keep(job, checkpoint, sums, _end(job))
            with job.timed("solving"):
                found = solve(
                    sums[Split.EXPLAIN], sums[Split.SELECT], pair.source, [pair.target], intercept=job.intercept
                )
                solution = _solution(job, sums, pair, found[pair.target])
            yield solution
            job.progress.advance(done + 1)


def _sum_up(job: Job, pairs: Sequence[Pair], sums: Sums, checkpoint: Checkpoint, said: str) -> None:
    begun, done = checkpoint.load(sums) or Place(Split.EXPLAIN, 0), 0
    job.progress.start(f"reading{said}", job.tokens, "tokens")
    for split in READ:
        texts = job.texts[split]
        for number, batch in enumerate(job.batches(texts)):
            done += tokens_of(texts, batch)
            if (split.position, number) < (begun.split.position, begun.batch):
                continue
            for sources, targets in job.read(texts, batch, pairs):
                with job.timed("products"):
                    sums[split].update(sources, targets)
            job.progress.advance(done)
            _keep(job, checkpoint, sums, Place(split, number + 1))


def _end(job: Job) -> Place:
    """Where all is read."""
    last = READ[-1]
    return Place(last, len(job.batches(job.texts[last])))


def _keep(job: Job, checkpoint: Checkpoint, sums: Sums, place: Place) -> None:
    """Keep the sums if it is time, or if the user wants to stop.

    Raises:
        Interrupted: the user does.
    """
    if job.stop.is_set():
        kept = checkpoint.save(sums, place)
        what = "what was read is kept" if kept else "maps that are complete are kept"
        raise Interrupted(f"stopped; {what}", remedy="the same command continues")
    if checkpoint.due():
        with job.timed("checkpoints"):
            checkpoint.save(sums, place)


def _solution(job: Job, sums: Sums, pair: Pair, solved: Solved) -> Solution:
    """A map as it is stored, of low rank if that is wanted, and what is said of it."""
    found, error, kept = solved.map, solved.select_mse, None
    if job.rank is not None:
        own = sums[Split.EXPLAIN]
        mean = own.source_sum(pair.source) / own.tokens if job.intercept else None
        found, kept = low_rank(found, job.rank, own.second(pair.source, mean), mean)
        error = _mean_squared_error(sums[Split.SELECT], pair, found)
    facts = PairFacts(ridge=solved.ridge, select_mse=error, mean_mse=solved.mean_mse, rank_kept=kept)
    return pair, found, facts


def _mean_squared_error(sums: Grams, pair: Pair, found: NeuronMap) -> float:
    """Of any map W, b, over all neurons and the tokens of `sums`: Σ‖Wg + b − t‖² by Σggᵀ, Σgtᵀ, Σg, Σt and Σt²."""
    weight, bias, sum_t = found.weight.double(), found.bias.double(), sums.target_sum(pair.target)
    quadratic = (weight @ sums.second(pair.source) - 2 * sums.cross(pair).T).mul_(weight).sum()
    linear = 2 * (bias @ (weight @ sums.source_sum(pair.source) - sum_t)) + sums.tokens * (bias @ bias)
    total = float(sums.target_squares(pair.target).sum() + quadratic + linear)
    return max(0.0, total) / (sums.tokens * len(bias))
