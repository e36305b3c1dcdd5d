"""The steps of a report that is being written: the map, the values, the pages, the overview (`site.write_report`)."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neuronagent.domain import NeuronId
from neuronagent.errors import IndexMismatchError, InputError, StorageError
from neuronagent.service.lookup import Index
from neuronagent.service.processes import AHEAD, in_order, processes
from neuronagent.service.progress import Progress
from neuronagent.service.reporting import pages
from neuronagent.service.reporting.folder import ReportFolder
from neuronagent.service.reporting.names import HOME, MAP, OVERVIEW, file_names, neurons_with_pages, page_name
from neuronagent.service.reporting.overview import overview_files
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.pages import Drawer, Drawn, was_valued

_FEW = 12
"""So many pages are drawn before another process has begun."""


@dataclass(kw_only=True)
class Count:
    """Neurons by what came of them; of `failures`, `absent` are not in the index."""

    written: int = 0
    unchanged: int = 0
    failures: dict[NeuronId, str] = field(default_factory=dict[NeuronId, str])
    absent: int = 0

    def by_reason(self) -> dict[str, list[NeuronId]]:
        found: dict[str, list[NeuronId]] = {}
        for neuron, reason in self.failures.items():
            found.setdefault(reason, []).append(neuron)
        return found


class Run:
    """A report on `wanted` neurons that is being written."""

    def __init__(
        self,
        index: Index,
        wanted: Sequence[NeuronId],
        options: PageOptions,
        overview: bool,
        workers: int,
        progress: Progress,
    ) -> None:
        self.index, self.wanted, self.options, self.overview = index, wanted, options, overview
        self.workers, self.progress = workers, progress

    def names(self) -> Iterator[str]:
        """The files that the run will put, but for those of the model's map."""
        for neuron in self.wanted:
            yield from file_names(neuron)
        if self.overview:
            yield from OVERVIEW

    def map(self, report: ReportFolder, layers: Sequence[int]) -> list[str]:
        """The model's map; its files."""
        from neuronagent.service.reporting.model_map import write_model_map

        self.progress.start("drawing the model's map", 0, "")
        return write_model_map(self.index, report, layers, home=HOME if self._has_home(report) else None)

    def values(self, report: ReportFolder, model: str | None, device: str) -> int:
        """Get the values of tokens that pages lack; for how many neurons the model was run."""
        from neuronagent.service.indexed_model import model_at_hand
        from neuronagent.service.reporting.example_values import ensure_values, values_possible

        info, drawer, revisions = self.index.info, self._drawer(report, ()), self._revisions()
        missing = [n for n in self.wanted if not (drawer.holds(report, n, revisions[n]) and was_valued(report, n))]
        if self.overview:  # those that the index does not have fail alone, as pages
            layers = self.index.reader.layers()
            missing = [n for n in missing if n.index < layers.get(n.layer, 0)]
        if not missing or (model is None and (self.index.is_imported or info.get("weights_only"))):
            return 0
        shown_without = "tokens of examples are shown without their values where the model was not run"
        if model is None and not values_possible(info):
            why = "is not at hand" if model_at_hand(info) is None else "cannot be run on this index"
            self.progress.note(f"the model {why}: {shown_without}; --model-folder FOLDER adds them")
            return 0
        try:
            found = ensure_values(
                self.index.target, missing, model=model, device=device, options=self.options, progress=self.progress
            )
        except (IndexMismatchError, InputError, StorageError) as error:
            if model is not None:
                raise
            self.progress.note(f"the model was not run: {error.message}; {shown_without}")
            return 0
        return found.neurons

    def pages(self, report: ReportFolder, stop: threading.Event) -> Count:
        """The pages of all neurons; those that point to one that failed and has no page are drawn once more."""
        if not self.overview:
            return self._alone(report)
        count = Count()
        self._write(report, count, stop, ())
        gone = {neuron for neuron in count.failures if page_name(neuron) not in report.names}
        if gone and not stop.is_set():
            self._write(report, count, stop, gone)
        return count

    def _alone(self, report: ReportFolder) -> Count:
        """Few pages without an overview: all are drawn before the first is written."""
        count, drawer, revisions = Count(), self._drawer(report, ()), self._revisions()
        stale = [n for n in self.wanted if not drawer.is_current(report, n, revisions[n])]
        count.unchanged = len(self.wanted) - len(stale)
        for drawn in [drawer.draw(neuron, revisions[neuron]) for neuron in stale]:
            _put(report, drawn, count)
        return count

    def _write(self, report: ReportFolder, count: Count, stop: threading.Event, gone: Collection[NeuronId]) -> None:
        """One round over all neurons but those that are `gone`."""
        drawer, revisions = self._drawer(report, gone), self._revisions()
        tried = [neuron for neuron in self.wanted if neuron not in count.failures]
        stale = [neuron for neuron in tried if not drawer.is_current(report, neuron, revisions[neuron])]
        if not gone:
            count.unchanged = len(tried) - len(stale)
        self.progress.start("drawing pages", len(tried), "pages")
        for done, drawn in enumerate(self._drawn(drawer, [(n, revisions[n]) for n in stale], stop), 1):
            if drawn.reason:
                count.failures[drawn.neuron] = drawn.reason
                count.absent += drawn.absent
            elif gone:
                _put(report, drawn, Count())
            else:
                _put(report, drawn, count)
            self.progress.advance(len(tried) - len(stale) + done)

    def _drawn(self, drawer: Drawer, tasks: Sequence[tuple[NeuronId, str]], stop: threading.Event) -> Iterator[Drawn]:
        """The files of each task, in their order; ends early once `stop` is set."""
        workers = min(self.workers, -(-len(tasks) // _FEW))
        if workers <= 1:
            for task in tasks:
                if stop.is_set():
                    return
                yield drawer.attempt(task)
            return
        arguments = self.index.target, self.options, drawer.pages, drawer.home is not None
        with processes(workers, pages.prepare, *arguments) as pool:
            yield from in_order(pool, pages.attempt_here, tasks, AHEAD * workers, stop)

    def summarise(
        self, report: ReportFolder, done: Sequence[NeuronId], selection: str | None, count: Count
    ) -> list[str]:
        """The overview of the neurons that have pages; its files."""
        self.progress.start("drawing the overview", 0, "")
        mapped = MAP in report.names
        made = overview_files(self.index, done, selection=selection, failures=count.by_reason(), mapped=mapped)
        for name, data in made.items():
            report.put(name, data)
        return list(made)

    def _drawer(self, report: ReportFolder, gone: Collection[NeuronId]) -> Drawer:
        there = set(neurons_with_pages(report.names))
        own = {str(neuron) for neuron in self.wanted if neuron not in gone}
        return Drawer(self.index, self.options, there | own, self._has_home(report))

    def _has_home(self, report: ReportFolder) -> bool:
        return self.overview or HOME in report.names

    def _revisions(self) -> Mapping[NeuronId, str]:
        from neuronagent.service.reporting.content import revisions

        return revisions(self.index.reader, self.wanted)


def _put(report: ReportFolder, drawn: Drawn, count: Count) -> None:
    """Put the files of a neuron, its page last: what is noted there vouches for all of them."""
    *beside, page = drawn.files
    changed = [report.put(name, drawn.files[name]) for name in beside]
    if any([report.put(page, drawn.files[page], drawn.note), *changed]):
        count.written += 1
    else:
        count.unchanged += 1
