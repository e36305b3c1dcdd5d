"""Checks judges on planted concepts before their scores are trusted, once per judge and index."""

from __future__ import annotations

from typing import Any

from neuronagent.explain.judge_check import JudgeCheck, check_judge
from neuronagent.service.llm.connect import RunJudge, connected
from neuronagent.service.llm.options import LLMOptions
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress
from neuronagent.store.engine import writing
from neuronagent.store.judge_checks import CheckedJudge, add_check


def check(index: Index | None, options: LLMOptions, progress: Progress) -> dict[str, Any]:
    """Check the judge of `options`, store the outcome in `index` if there is one, and return it.

    Raises:
        LLMError, BudgetError, Interrupted, StorageError, ModelError.
    """
    with connected(options, index.target if index else None) as connection:
        found = run_check(index, connection.judge, progress)
    return {
        "schema_version": 1,
        **found.to_json(),
        "requests": connection.ledger.requests,
        "prompt_tokens": connection.ledger.prompt_tokens,
        "stored": index is not None,
    }


def run_check(index: Index | None, judge: RunJudge, progress: Progress) -> JudgeCheck:
    """Ask the judge about the planted concepts, and store how it did."""
    progress.start("checking the judge", 0, "answers")
    found = check_judge(judge, told=lambda done, _of: progress.advance(done))
    if index is not None:
        with writing(index.target) as engine:
            add_check(
                engine,
                CheckedJudge(
                    model=judge.model,
                    server=judge.server,
                    kind=judge.kind,
                    prompt_version=judge.prompt_version,
                    auroc=found.auroc,
                    passed=found.passed,
                    details=found.to_json(),
                ),
            )
    return found


def ensure_checked(index: Index, judge: RunJudge, progress: Progress) -> bool:
    """Whether the judge passed its check; it is checked now if it never was."""
    known = index.judges_fit
    if judge.name not in known:
        return run_check(index, judge, progress).passed
    return known[judge.name]
