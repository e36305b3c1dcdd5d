"""Reads GLUScope pages: their statistics, and every example as an entry of a list and as a trace.

What contradicts itself, is missing or broken is counted and left out; the rest is read. Of the publisher's texts only
what was printed is known: it ends two tokens behind the peak, so that one document may be several texts here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from neuronagent.domain import NeuronId, Quantity, SignCombination, clip
from neuronagent.errors import InputError, NotFoundError
from neuronagent.importers.gluscope_example import BadExample, ReadExample, read_example
from neuronagent.importers.gluscope_page import ExampleName, Page, parse_page
from neuronagent.importers.problems import Problems
from neuronagent.importers.sites import PAGE, MissingFile, Site
from neuronagent.published import HOOKS, PublishedCombination, PublishedExample, PublishedNeuron, Trace

MOST_NEURONS = 300
"""Neurons of one import: all their traces are held until they are written, about 2 MB each."""
_SAME_TRACE = 1e-3
_ROUNDED = 0.0051
"""How far a number printed with two decimals may be from the one that it was."""


@dataclass(kw_only=True)
class Pages:
    """What was read: `tokens` are all different token strings, `texts` places in it, neurons with their traces."""

    model: str | None = None
    activation: str | None = None
    tokens: list[str] = field(default_factory=list[str])
    texts: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    neurons: list[tuple[PublishedNeuron, list[Trace]]] = field(
        default_factory=list[tuple[PublishedNeuron, list[Trace]]]
    )
    examples: int = 0


def read_pages(
    site: Site, wanted: Sequence[NeuronId], problems: Problems, progress: Callable[[int, int], None]
) -> Pages:
    """Read the pages of `site`, all or those of `wanted`; `progress(done, neurons)` is called after each.

    Raises:
        InputError: nothing could be used, the pages are of several models, or there are too many.
        NotFoundError: the site has no page of a wanted neuron.
    """
    folders = site.folders(problems)
    if missing := [neuron for neuron in wanted if neuron not in folders]:
        known = clip(", ".join(map(str, sorted(folders))) or "none", 300)
        raise NotFoundError(f"{site.name} has no page of {missing[0]}", remedy=f"it has {known}")
    chosen = sorted(wanted or folders)
    if len(chosen) > MOST_NEURONS:
        raise InputError(f"{site.name} has pages of {len(chosen)} neurons", remedy="choose some with --neuron")
    reader = _Reader(site, problems)
    for done, neuron in enumerate(chosen, 1):
        reader.take(neuron, folders[neuron])
        progress(done, len(chosen))
    if not reader.pages.neurons:
        kinds = "; ".join(f"{p.what} ({p.examples[0]})" for p in problems.all[:3])
        raise InputError(f"{site.name} has no GLUScope page that can be used" + (f": {kinds}" if kinds else ""))
    return reader.pages


class _Reader:
    def __init__(self, site: Site, problems: Problems) -> None:
        self.site, self.problems = site, problems
        self.pages = Pages()
        self._tokens: dict[str, int] = {}
        self._texts: dict[tuple[int, ...], int] = {}

    def take(self, neuron: NeuronId, folder: str) -> None:
        """Read one neuron; what cannot be used is counted."""
        page = self._page(neuron, folder)
        if page is None:
            return
        there = set(self.site.examples(folder))
        lists: dict[tuple[SignCombination, Quantity], list[PublishedExample]] = {}
        traces: dict[int, Trace] = {}
        for name in sorted({*page.examples, *there}):
            example = self._example(folder, name)
            if example is None:
                continue
            combination, quantity = SignCombination(name.combination), HOOKS[name.hook]
            text = self._text(example.tokens)
            self._keep_trace(traces, Trace(text=text, start=0, values=example.values), f"{folder}/{name}")
            entries = lists.setdefault((combination, quantity), [])
            entries.append(PublishedExample(example.value(quantity), text, example.position))
            self.pages.examples += 1
        if not lists and not page.frequency and not page.statistics:
            self.problems.add("a page of which nothing can be used", folder)
            return
        self._compare(page, lists, folder)
        self.pages.neurons.append((_neuron(neuron, page, lists), list(traces.values())))

    def _page(self, neuron: NeuronId, folder: str) -> Page | None:
        """The page, empty where it is missing; None if it belongs to something else."""
        try:
            page = parse_page(self.site.read(folder, PAGE))
        except MissingFile as error:
            self.problems.add("a missing page: its statistics are absent", str(error))
            return Page(model=None, neuron=None, frequency={}, statistics={}, examples=(), strange=())
        for link in page.strange:
            self.problems.add("a link that is no example", f"{folder}: {link}")
        if page.neuron not in (None, neuron):
            self.problems.add("a page of another neuron than its folder says", f"{folder}: {page.neuron}")
            return None
        if page.model is not None:
            if self.pages.model not in (None, page.model):
                raise InputError(
                    f"{self.site.name} has pages of {self.pages.model} and of {page.model}",
                    remedy="name the folder of one model",
                )
            self.pages.model = page.model
        if not page.frequency or not page.statistics:
            self.problems.add("a page without its table of statistics", folder)
        return page

    def _example(self, folder: str, name: ExampleName) -> ReadExample | None:
        combination, quantity = SignCombination(name.combination), HOOKS[name.hook]
        try:
            data = self.site.read(folder, str(name))
            example = read_example(data, combination, quantity, self.pages.activation)
        except MissingFile as error:
            self.problems.add("a missing example", str(error))
            return None
        except BadExample as error:
            self.problems.add(error.what, f"{folder}/{name}: {error.detail}")
            return None
        self.pages.activation = example.activation
        return example

    def _text(self, tokens: Iterable[str]) -> int:
        """The number of a text, the same for the same tokens."""
        ids = tuple(self._token(token) for token in tokens)
        if ids not in self._texts:
            self._texts[ids] = len(self._texts)
            self.pages.texts.append(ids)
        return self._texts[ids]

    def _token(self, string: str) -> int:
        if string not in self._tokens:
            self._tokens[string] = len(self._tokens)
            self.pages.tokens.append(string)
        return self._tokens[string]

    def _keep_trace(self, traces: dict[int, Trace], trace: Trace, where: str) -> None:
        """Keep the first trace of a text; others must say the same."""
        first = traces.setdefault(trace.text, trace)
        if np.abs(first.values - trace.values).max() > _SAME_TRACE * max(1.0, float(np.abs(first.values).max())):
            self.problems.add("two traces of a text that differ: the first is kept", where)

    def _compare(
        self, page: Page, lists: dict[tuple[SignCombination, Quantity], list[PublishedExample]], folder: str
    ) -> None:
        """The strongest example must be the extreme that the page prints; lists must descend."""
        for (combination, quantity), entries in lists.items():
            magnitudes = [abs(entry.value) for entry in entries]
            where = f"{folder} {combination.value} {quantity.value}"
            if any(b > a * (1 + 1e-5) + 1e-6 for a, b in pairwise(magnitudes)):
                self.problems.add("a list that does not descend", where)
            found = page.statistics.get(combination, {}).get(quantity)
            extremes = [abs(x) for x in (found.min, found.max) if x is not None] if found else []
            if extremes and abs(max(extremes) - max(magnitudes)) > _ROUNDED:
                detail = f"{where}: {max(extremes):g} on the page, {max(magnitudes):.3f} at the strongest example"
                self.problems.add("an extreme that no example has", detail)


def _neuron(
    neuron: NeuronId, page: Page, lists: dict[tuple[SignCombination, Quantity], list[PublishedExample]]
) -> PublishedNeuron:
    return PublishedNeuron(
        neuron=neuron,
        combinations={
            c: PublishedCombination(
                combination=c,
                frequency=page.frequency.get(c),
                statistics=page.statistics.get(c, {}),
                lists={q: tuple(lists.get((c, q), ())) for q in Quantity},
            )
            for c in SignCombination
        },
    )
