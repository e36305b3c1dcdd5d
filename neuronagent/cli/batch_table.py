"""The table that a batch ends with: verdicts, lift over the best control, what is told apart, failures and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text
from neuronagent.cli.progress import duration
from neuronagent.domain import SignCombination

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.batch_report import BatchReport, Distribution
    from neuronagent.service.llm.campaign import CampaignReport

JUDGED, RULE = "judged", "rule"
"""The columns: explanations as a judge scored them, and rules by their own predictors."""
_BAR = 40
_NAMED = 5
View = Mapping[str, Any]


def batch_view(reports: Mapping[str, BatchReport], campaign: CampaignReport | None) -> dict[str, Any]:
    """What a batch prints with --json: a report for each source of explanations, and what the language model took."""
    by_source = {source: report.to_dict() for source, report in reports.items()}
    return {"schema_version": 1, "reports": by_source, "llm": campaign.to_dict() if campaign else None}


def print_batch(
    out: Console, model: View, reports: Mapping[str, BatchReport], campaign: CampaignReport | None, db: str | None
) -> None:
    """Print a column per source of explanations; the first one's lifts are drawn."""
    from rich.text import Text

    first = next(iter(reports.values()))
    took = next((f" · {duration(r.seconds)}" for r in reports.values() if r.seconds is not None), "")
    title = Text(f"{first.neurons:,} neurons", style="bold")
    out.print(title.append(f" · {card.model_name(model)} · index {model['fingerprint']}{took}", style="not bold"))
    out.print()
    table = card.plain_table([("", "wrap"), *((source, "right") for source in reports)])
    for name, values in _rows(reports):
        table.add_row(*card.cells(name, *values))
    out.print(table)
    if first.lift is not None:
        out.print()
        out.print(Text(f"lift over the best control, {first.lift.n:,} combinations", style="dim"))
        for line in _histogram(first.lift):
            out.print(Text(line))
    for line in _notes(first, reports, campaign):
        out.print(Text(line))
    named = _first_not_told_apart(first)
    card.next_commands(out, *([f"neuronagent explain {named}"] if named else ["neuronagent search --limit 10"]), db=db)


def _rows(reports: Mapping[str, BatchReport]) -> Iterable[tuple[str, list[str]]]:
    from neuronagent.explain.verdict import Verdict

    every = list(reports.values())
    yield "combinations explained and scored", [f"{r.units:,}" for r in every]
    for verdict in reversed(Verdict):
        counts = [r.verdicts.get(verdict, 0) for r in every]
        if any(counts) and verdict is not Verdict.NOT_ENOUGH:
            yield f"  {verdict.value}", [f"{count:,}" for count in counts]
    yield "combinations with too few examples", [f"{r.verdicts.get(Verdict.NOT_ENOUGH, 0):,}" for r in every]
    lifts = [r.lift for r in every]
    if any(lifts):
        for title, q in (
            ("lift over the best control, median", 0.5),
            ("  5 % are below", 0.05),
            ("  5 % are above", 0.95),
        ):
            yield title, ["–" if d is None else text.lift(d.quantiles[q]) for d in lifts]
        yield "  interval above 0", ["–" if d is None else f"{d.surely_positive:,} of {d.n:,}" for d in lifts]
    yield "better than chance (Benjamini–Hochberg, q = .05)", [f"{r.discoveries:,} of {r.tested:,}" for r in every]
    yield "pairs of combinations not told apart", [f"{len(r.not_told_apart):,}" for r in every]
    yield "neurons without any explanation", [f"{r.unexplained:,}" for r in every]


def _histogram(found: Distribution) -> list[str]:
    """A bar for each bin from the first to the last that is not empty."""
    filled = [place for place, count in enumerate(found.counts) if count]
    most = max(found.counts)
    lines: list[str] = []
    for place in range(filled[0], filled[-1] + 1):
        count = found.counts[place]
        bar = "█" * round(_BAR * count / most) or ("▏" if count else "")
        low, high = (f"{edge:+.1f}".replace("-", "−") for edge in found.edges[place : place + 2])
        lines.append(f"  {low} to {high}  {bar} {count:,}")
    return lines


def _notes(first: BatchReport, reports: Mapping[str, BatchReport], campaign: CampaignReport | None) -> list[str]:
    lines: list[str] = []
    if first.not_told_apart:
        pairs = [f"{n} {_pair(a, b)}" for n, a, b in first.not_told_apart[:_NAMED]]
        more = len(first.not_told_apart) - len(pairs)
        lines.append(f"Not told apart: {'; '.join(pairs)}{f'; and {more:,} more (--json)' if more else ''}.")
    failed: dict[str, list[str]] = {}
    for report in reports.values():
        for reason, those in report.failures.items():
            failed.setdefault(reason, []).extend(map(str, those))
    for neuron, reason in (campaign.failures if campaign else {}).items():
        failed.setdefault(reason, []).append(neuron)
    for reason, those in failed.items():
        shown = ", ".join(those[:_NAMED]) + (", …" if len(those) > _NAMED else "")
        lines.append(f"Failed: {len(those):,} neurons ({text.visible(shown)}): {text.visible(reason)}.")
    if campaign is not None:
        lines.append(f"{JUDGED}: what {text.visible(campaign.judge)} judged best, a text or the rule's own words.")
    if campaign is not None and not campaign.judge_passed:
        lines.append(
            f"The judge, {text.visible(campaign.judge)}, did not pass its check: its scores are not to be trusted."
        )
    return lines + ([spent(campaign)] if campaign else [])


def spent(campaign: CampaignReport) -> str:
    """What the language models were asked and what that took."""
    tokens = f"{campaign.prompt_tokens:,} + {campaign.completion_tokens:,} tokens"
    cost = f"${campaign.cost:,.4f}" if campaign.cost is not None else "cost unknown without --prices"
    bad = ", ".join(f"{count:,} {status}" for status, count in campaign.statuses.items() if status != "ok" and count)
    return (
        f"Asked: {campaign.requests:,} requests, {campaign.cached:,} known from before; {tokens}; {cost}"
        + (f"; without an answer: {text.visible(bad)}" if bad else "")
        + "."
    )


def failures(campaign: CampaignReport) -> list[str]:
    """The neurons that failed, a line each."""
    return [f"failed: {text.visible(neuron)}: {text.visible(why)}" for neuron, why in campaign.failures.items()]


def _pair(a: SignCombination, b: SignCombination) -> str:
    return f"{text.combination(a)} and {text.combination(b)}"


def _first_not_told_apart(report: BatchReport) -> str | None:
    return str(report.not_told_apart[0][0]) if report.not_told_apart else None
