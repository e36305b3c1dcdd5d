"""`neuronagent score --live`: what the model itself says of stored explanations, with sentences that a language model
writes or that a file holds."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from neuronagent.cli import text
from neuronagent.cli.llm_options import read_options
from neuronagent.cli.output import say
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import NeuronId
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from neuronagent.explain.llm.budget import Preview
    from neuronagent.service.llm.connect import Drafter
    from neuronagent.service.llm.options import LLMOptions
    from neuronagent.service.lookup import Index


def score_live(
    neurons: Sequence[NeuronId],
    explanation: int | None,
    sentences: Path | None,
    *,
    llm: str | None,
    base_url: str | None,
    budget_tokens: int | None,
    budget: float | None,
    prices: Path | None,
    dry_run: bool,
    yes: bool,
    model: str | None,
    db: str | None,
) -> None:
    """Score stored explanations of `neurons` with the live model, after a preview of what `llm` costs.

    Raises:
        NeuronagentError: what is not there or does not go together; what was scored before is stored.
    """
    if sentences is not None and explanation is None:
        raise UsageError(
            "--sentences are about one explanation", remedy="name it with --id; see `neuronagent explanations`"
        )
    options = read_options(
        llm=llm, judge=None, base_url=base_url, budget_tokens=budget_tokens, budget=budget, prices=prices
    )

    from neuronagent.service.live_campaign import LiveReport, cost, read_pairs, unwritten
    from neuronagent.service.live_campaign import score_live as run
    from neuronagent.service.lookup import open_index

    pairs = None if sentences is None else read_pairs(sentences)
    with open_index(db) as index:
        for neuron in neurons:  # the rules' words are explanations too
            index.ensure_explained(neuron)
        with _drafter(index, options) as drafter:
            if drafter is not None:
                texts = unwritten(index, neurons, explanation)
                _preview(drafter.model, len(texts), cost(drafter, texts), yes=yes or dry_run)
            if dry_run:
                return
            from neuronagent.service.live.model import open_live
            from neuronagent.service.live.questions import InProcess

            asks = InProcess(open_live(index, model))
            with terminal_progress() as progress:
                report: LiveReport = run(
                    index, neurons, asks, explanation_id=explanation, pairs=pairs, drafter=drafter, progress=progress
                )
    for note in report.notes:
        say(text.visible(note))


@contextmanager
def _drafter(index: Index, options: LLMOptions | None) -> Generator[Drafter | None]:
    """Who writes sentences; None for nobody."""
    if options is None:
        yield None
        return
    from neuronagent.service.llm.connect import connected

    with connected(options, index.target) as connection:
        yield connection.drafter


def _preview(model: str, explanations: int, expected: Preview, *, yes: bool) -> None:
    """Say what writing sentences will take.

    Raises:
        UsageError: it is much, and nobody agreed.
    """
    about = "" if expected.exact else "about "
    money = "" if expected.cost is None else f", at most ${expected.cost:,.4f}"
    say(
        f"writing sentences ({text.visible(model)}) for {explanations} explanations: {expected.requests:,} requests, "
        f"{about}{expected.prompt_tokens:,} prompt tokens, at most {expected.completion_tokens:,} answer tokens{money}"
    )
    if not yes and expected.requests:
        raise UsageError(
            "nothing was sent: a batch with a language model begins when it is agreed to", remedy="add --yes"
        )
