"""An open index as Python objects: what the CLI, the MCP server and a notebook all use.

index = neuronagent.open("model.db")
neuron = index.neuron("2.310")
neuron.record.geometry.cos_in_out
neuron.examples("gate+_in-", limit=5)
index.search(io_classes=("depletion",), sort="cos_in_out")
index.explain("2.310")
index.to_pandas()
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from neuronagent.domain import (
    LISTED,
    ListEntry,
    Neighbours,
    NeuronId,
    NeuronRecord,
    Quantity,
    Role,
    SignCombination,
    Split,
    Text,
)
from neuronagent.errors import IndexMismatchError
from neuronagent.published import IMPORTED
from neuronagent.settings import chosen_db
from neuronagent.store.engine import display_name
from neuronagent.store.explanations import StoredExplanation, StoredScore
from neuronagent.store.reader import IndexReader
from neuronagent.store.search import SearchPage, SearchQuery, SearchRow

if TYPE_CHECKING:
    import pandas as pd

    from neuronagent.predictability.view import PredictabilityView
    from neuronagent.service.explain import Explainer
    from neuronagent.service.explain_imported import ImportedExplainer
    from neuronagent.service.reporting.notebook_page import NeuronPage
    from neuronagent.service.reporting.page_options import PageOptions

CONTEXT = 24
"""Tokens shown before an example's marked one; `FOLLOWING` after it."""
FOLLOWING = 8
TEXTS_KEPT = 512
"""Texts that an open index keeps in memory, some 40 kB each."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A token of the corpus with a value there, and the text around it: `before`, `token`, `after`."""

    value: float
    text_id: int
    document: str
    position: int
    split: Split
    before: str
    token: str
    after: str

    @property
    def text(self) -> str:
        """The passage, the token within it not marked."""
        return self.before + self.token + self.after


class Neuron:
    """One neuron of an index: its record, its examples, its explanations."""

    def __init__(self, index: Index, record: NeuronRecord) -> None:
        self.index, self.record = index, record

    @property
    def id(self) -> NeuronId:
        return self.record.neuron

    def examples(
        self,
        combination: SignCombination | str,
        quantity: Quantity | str = Quantity.POST,
        *,
        split: Split | None = None,
        limit: int | None = None,
    ) -> list[Example]:
        """The strongest examples, each from a text of its own; `split` restricts `post` lists to one split."""
        c = combination if isinstance(combination, SignCombination) else SignCombination.parse(combination)
        q = quantity if isinstance(quantity, Quantity) else Quantity(quantity)
        own = self.record.combinations.get(c)
        if own is None:
            return []
        entries: Sequence[ListEntry] = own.top[q]
        if split is not None:
            if q is Quantity.POST:
                entries = own.post_by_split[split]
            else:
                return [e for e in self.index.examples(entries) if e.split is split][:limit]
        return self.index.examples(entries[:limit])

    @property
    def role(self) -> Role | None:
        """The functional role, None for none; the numbers behind it are in `record.role`."""
        return self.record.role.role

    def neighbours(self) -> Neighbours | None:
        """The most similar and opposite neurons, readers and writers, by list; None where the index has none."""
        return self.index.reader.neighbours(self.id)

    def predictability(self, fit: str | None = None) -> PredictabilityView:
        """How well other layers, its token and its position foretell it, by the maps of a fit: without a name the one
        called `default`, else the newest that is scored; `available` is False, with a reason, where none is."""
        from neuronagent.service.predict.views import neuron_predictability

        return neuron_predictability(self.index, self.id, fit)

    def explanations(self, *, superseded: bool = False) -> list[tuple[StoredExplanation, list[StoredScore]]]:
        """The stored explanations of all combinations, each with its scores."""
        return self.index.explanations(self.id, superseded=superseded)

    def page(self, options: PageOptions | None = None) -> NeuronPage:
        """Its page: see `Index.page`."""
        return self.index.page(self.id, options)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `neuronagent show --json` prints it."""
        from neuronagent.service import views

        return views.neuron_view(self)

    def __repr__(self) -> str:
        return f"<Neuron {self.id}: {self.record.io_class}>"

    def _repr_html_(self) -> str:
        """How a notebook shows it: its page in short, with three examples per sign combination (`Index.page`)."""
        from neuronagent.service.reporting.page_options import PageOptions

        return self.index.page(self.id, PageOptions(examples=3)).to_fragment()


class Index:
    """An open index. Close it, or use it in a `with` block."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.reader = IndexReader.open(target)
        self._texts: dict[int, Text] = {}
        self._reading_texts = threading.Lock()
        self._token_bytes: dict[int, bytes | None] = {}

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.reader.close()

    @cached_property
    def info(self) -> dict[str, Any]:
        """What the index says of itself: model, corpus, processing, versions, fingerprint."""
        return self.reader.info()

    def neuron(self, neuron: str | NeuronId) -> Neuron:
        """One neuron.

        Raises:
            UsageError: no neuron's name.
            NotFoundError: the index does not have it.
            IndexMismatchError: the index was imported and has no such records; see `imported`.
        """
        identifier = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
        self._refuse_imported()
        return Neuron(self, self.reader.neuron(identifier))

    def search(self, query: SearchQuery | None = None, **criteria: Any) -> SearchPage:
        """The neurons that meet a `SearchQuery`, or its fields given by name.

        Raises:
            IndexMismatchError: the index was imported; see `reader.published.search`.
        """
        self._refuse_imported()
        return self.reader.search(query or SearchQuery(**criteria))

    @property
    def judges_fit(self) -> dict[str, bool]:
        """Of each judge that was checked with the prompts of today, by the name that scores have: whether it passed."""
        from neuronagent.explain.prompts import judge_prompt_version

        return self.reader.judges_fit(judge_prompt_version())

    @cached_property
    def is_imported(self) -> bool:
        """Whether the numbers were published by somebody else, and read by `neuronagent import`."""
        return self.info.get("protocol") == IMPORTED

    def imported(self, neuron: str | NeuronId, *, traces: bool = False) -> dict[str, Any]:
        """What was published of a neuron, as `neuronagent show --json` prints it.

        Raises:
            UsageError: no neuron's name.
            NotFoundError: it was not imported.
        """
        from neuronagent.service import imported_views

        identifier = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
        return imported_views.show_view(self, identifier, traces=traces)

    def page(self, neuron: str | NeuronId, options: PageOptions | None = None) -> NeuronPage:
        """The page of a neuron, of a computed index or an imported one: a notebook shows it, `content` is what it
        says as plain JSON, and it can be had as HTML and as Markdown; `options` say which examples.

        Raises:
            UsageError: no neuron's name.
            NotFoundError: the index does not have it.
        """
        from neuronagent.service.reporting.content import neuron_content
        from neuronagent.service.reporting.notebook_page import NeuronPage

        identifier = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
        return NeuronPage(neuron_content(self, identifier, options))

    def _repr_html_(self) -> str:
        from neuronagent.service.reporting.notebook_page import index_fragment

        return index_fragment(self)

    def _refuse_imported(self) -> None:
        if self.is_imported:
            raise IndexMismatchError(
                f"{display_name(self.target)} holds imported numbers ({IMPORTED}), not neurons' whole records",
                remedy="use `neuronagent show`, `search` and `explain`, or Index.imported and Index.explain",
            )

    @cached_property
    def imported_explainer(self) -> ImportedExplainer:
        """The deterministic explainer over an index of imported numbers."""
        from neuronagent.service.explain_imported import ImportedExplainer

        return ImportedExplainer(self.reader)

    @cached_property
    def explainer(self) -> Explainer:
        """The deterministic explainer over this index."""
        from neuronagent.service.explain import Explainer

        return Explainer(self.reader)

    def explain(self, neuron: str | NeuronId) -> dict[str, Any]:
        """Explain and score a neuron, store it in the index, and return what `neuronagent explain --json` prints.

        What is stored already is returned as it is.
        """
        identifier = neuron if isinstance(neuron, NeuronId) else NeuronId.parse(neuron)
        self.ensure_explained(identifier)
        if self.is_imported:
            from neuronagent.service import imported_views

            return imported_views.explanation_view(self, identifier)
        from neuronagent.service import views

        return views.explanation_view(self.neuron(identifier))

    def ensure_explained(self, neuron: NeuronId) -> None:
        """Explain and score a neuron by the deterministic explainer, unless that is stored."""
        if self.is_imported:
            from neuronagent.service import explain_imported

            explain_imported.ensure_explained(self.imported_explainer, self.target, neuron)
            return
        from neuronagent.service import explain

        explain.ensure_explained(self.explainer, self.target, neuron)

    def explanations(
        self, neuron: NeuronId, *, superseded: bool = False
    ) -> list[tuple[StoredExplanation, list[StoredScore]]]:
        """The stored explanations of a neuron of either kind of index, each with its scores."""
        return [(e, self.reader.scores(e.id)) for e in self.reader.explanations(neuron, superseded=superseded)]

    def examples(self, entries: Iterable[ListEntry]) -> list[Example]:
        """The passages around list entries."""
        wanted = list(entries)
        places = [self.reader.locate(entry.token_number) for entry in wanted]
        texts = self.load_texts({text_id for text_id, _ in places})
        shown = [(texts[text_id], max(1, position - CONTEXT), position) for text_id, position in places]
        self.load_tokens(t for text, start, p in shown for t in text.token_ids[start : p + 1 + FOLLOWING])
        return [
            Example(
                value=entry.value,
                text_id=text.text_id,
                document=text.document,
                position=position,
                split=text.split,
                before=self.decode(text.token_ids[start:position]),
                token=self.decode(text.token_ids[position : position + 1]),
                after=self.decode(text.token_ids[position + 1 : position + 1 + FOLLOWING]),
            )
            for entry, (text, start, position) in zip(wanted, shown, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids as text; bytes that are no UTF-8 become U+FFFD."""
        self.load_tokens(ids)
        return b"".join(self._token_bytes[i] or b"" for i in ids).decode("utf-8", errors="replace")

    def load_texts(self, ids: set[int]) -> dict[int, Text]:
        """The texts `ids`; the last `TEXTS_KEPT` that were read stay in memory, since lists share texts."""
        with self._reading_texts:  # another thread may be about to crowd out what this one found
            missing = ids - self._texts.keys()
            if missing:
                self._texts.update(self.reader.texts_of(missing))
            found = {text_id: self._texts[text_id] for text_id in ids}
            while len(self._texts) > TEXTS_KEPT:
                del self._texts[next(iter(self._texts))]
        return found

    def load_tokens(self, ids: Iterable[int]) -> Mapping[int, bytes | None]:
        """The bytes of the tokens `ids`, among those of all that were ever asked for; None for what is no text."""
        missing = sorted({i for i in ids if i not in self._token_bytes})
        if missing:
            self._token_bytes.update(zip(missing, self.reader.token_bytes(missing), strict=True))
        return self._token_bytes

    def to_pandas(self) -> pd.DataFrame:
        """A row per neuron: class, role, cosines, `store.search.NUMBERS`, frequency and output mass by combination."""
        import pandas as pd

        def row(found: SearchRow) -> dict[str, Any]:
            columns: dict[str, Any] = {
                "neuron": str(found.neuron),
                "layer": found.neuron.layer,
                "index": found.neuron.index,
                "io_class": str(found.io_class),
                "role": found.role.value if found.role else None,
                **found.cosines,
                **found.numbers,
            }
            for c in SignCombination:
                columns[f"frequency {c.value}"] = found.frequency[c]
                columns[f"mass {c.value}"] = found.mass_share[c]
            return columns

        rows: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = self.search(limit=10_000, offset=offset)
            rows += [row(found) for found in page.rows]
            offset = page.next_offset
        return pd.DataFrame(rows)


def open_index(target: str | None = None) -> Index:
    """Open an index: a path or `postgresql://…` URL, else `NEURONAGENT_DB`, else the only one in the data folder."""
    return Index(chosen_db(target))


__all__ = ["LISTED", "Example", "Index", "Neuron", "open_index"]
