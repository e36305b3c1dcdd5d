"""Writes a report into a folder: a page for each neuron, and for a batch of them an overview, tables and a summary.

Worker processes draw, this one alone writes. What is there already and still holds is neither drawn nor written, so
that a report that was stopped at any point is finished by writing it again. Nothing that is written says when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from neuronagent.domain import NeuronId
from neuronagent.errors import Interrupted, NeuronagentError, NotFoundError, UsageError
from neuronagent.service.lookup import Index
from neuronagent.service.processes import worker_count
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.reporting.folder import opened
from neuronagent.service.reporting.names import HOME, MAP, file_names, neurons_with_pages
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.run import Run
from neuronagent.service.stopping import stops_cleanly


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did. `pages` of the neurons that were asked for are in the folder, of which `written` are new and
    `unchanged` are as they were; `others`, of other neurons, stay. `files`: all of this run, `bytes` together, of which
    `files_written` are new. `valued`: neurons for which the model was run. `failures`: by reason, the neurons that have
    no page from this run.
    """

    folder: Path
    pages: int
    written: int
    unchanged: int
    others: int
    files: Sequence[str]
    files_written: int
    bytes: int
    valued: int
    failures: Mapping[str, Sequence[NeuronId]]
    seconds: float

    @property
    def overview(self) -> Path | None:
        """The page to begin with, where there is more than one neuron's."""
        return next((self.folder / name for name in (HOME, MAP) if name in self.files), None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "schema_version": 1,
            "folder": str(self.folder),
            "pages": self.pages,
            "written": self.written,
            "unchanged": self.unchanged,
            "others": self.others,
            "files": list(self.files),
            "files_written": self.files_written,
            "bytes": self.bytes,
            "valued": self.valued,
            "failures": [
                {"reason": reason, "neurons": [str(neuron) for neuron in those]}
                for reason, those in self.failures.items()
            ],
            "seconds": self.seconds,
        }


def write_report(
    index: Index,
    folder: str | Path,
    neurons: Iterable[NeuronId | str] = (),
    *,
    options: PageOptions | None = None,
    overview: bool | None = None,
    selection: str | None = None,
    model_map: bool = False,
    layers: Sequence[int] = (),
    values: bool = True,
    model: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write the pages of `neurons` into `folder`, and the model's map if `model_map` (`layers`: of its scatter).

    `overview`: also an index page, tables and a summary (None: for more than one neuron); `selection` says there how
    the neurons were chosen. A neuron that fails is then in the report with its reason, and the others go on; without
    an overview the first failure is raised before anything is written. `values`: run the model first for the tokens
    that pages show, where they are missing and it is at hand, or is named by `model`; `workers`: processes (None: one
    per core).

    Raises:
        UsageError: nothing to write, no neuron's name, or fewer than one worker.
        NotFoundError: a neuron is not in the index, or none of a batch.
        NeuronagentError: none of a batch could be drawn.
        StorageError: the folder holds something else or cannot be written; nothing of others is ever overwritten.
        IndexMismatchError: the folder holds the report of another index, or `model` is another one.
        ModelError: `model` cannot be used.
        Interrupted: Ctrl-C; what was written stays.
    """
    wanted = list(dict.fromkeys(n if isinstance(n, NeuronId) else NeuronId.parse(n) for n in neurons))
    if not wanted and not model_map:
        raise UsageError("there is nothing to report on", remedy="name neurons, or ask for the model's map")
    run = Run(
        index, wanted, options or PageOptions(), len(wanted) > 1 if overview is None else overview and bool(wanted),
        worker_count(workers, "draw"), progress or Silent(),
    )  # fmt: skip
    started, fingerprint = perf_counter(), str(index.info["fingerprint"])
    about = {"fingerprint": fingerprint, "model": str((index.info.get("model") or {}).get("name", ""))}
    with opened(folder, about) as report, stops_cleanly() as stop:
        report.check(run.names())
        files: list[str] = []
        if model_map:
            files += run.map(report, layers)
        valued = run.values(report, model, device) if values else 0
        count = run.pages(report, stop)
        if stop.is_set():
            raise Interrupted(
                f"the report was stopped: {count.written + count.unchanged:,} of {len(wanted):,} pages are there",
                remedy="run it again: what is written stays",
            )
        done = [neuron for neuron in wanted if neuron not in count.failures]
        if wanted and not done:
            kind = NotFoundError if count.absent == len(wanted) else NeuronagentError
            raise kind(
                f"none of {len(wanted):,} neurons has a page: {next(iter(count.failures.values()))}",
                remedy="`neuronagent info` and `check` say what the index holds",
            )
        files = [name for neuron in done for name in file_names(neuron)] + files
        if run.overview:
            files += run.summarise(report, done, selection, count)
        mine = set(map(str, wanted))
        return Report(
            folder=report.path,
            pages=len(done),
            written=count.written,
            unchanged=count.unchanged,
            others=len(set(neurons_with_pages(report.names)) - mine),
            files=files,
            files_written=report.written,
            bytes=sum(report.size(name) for name in files),
            valued=valued,
            failures=count.by_reason(),
            seconds=perf_counter() - started,
        )
