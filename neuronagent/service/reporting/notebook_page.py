"""A neuron's page and an index as notebooks show them.

index.page("31.9634")                        # shows itself; of imported neurons too
index.page("31.9634").to_markdown()
Path("31.9634.html").write_text(index.page("31.9634").to_html(), encoding="utf-8")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neuronagent.report.content import NeuronContent
from neuronagent.service.reporting.provenance import provenance

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index


@dataclass(frozen=True)
class NeuronPage:
    """What a neuron's page shows (`content`), and the page in its forms."""

    content: NeuronContent = field(repr=False)

    @property
    def neuron(self) -> str:
        return self.content["neuron"]

    def to_html(self) -> str:
        """The whole page, as `neuronagent report` writes it, without links to other files."""
        from neuronagent.report.neuron_page import Links, neuron_page

        return neuron_page(self.content, Links())

    def to_markdown(self) -> str:
        """The page in Markdown, for an issue or a paper."""
        from neuronagent.report.markdown import markdown

        return markdown(self.content)

    def to_fragment(self) -> str:
        """The page in short, three examples per combination at most: HTML to stand within another page."""
        from neuronagent.report.notebook import notebook

        return notebook(self.content)

    def _repr_html_(self) -> str:
        return self.to_fragment()

    def __repr__(self) -> str:
        return f"<NeuronPage {self.neuron}>"


def index_fragment(index: Index) -> str:
    """What an index shows of itself in a notebook: model, corpus, conventions, fingerprint and IO classes."""
    from neuronagent.report.notebook import notebook_index

    found = provenance(index.info)
    published: Mapping[str, Any] = found["published"] or {}
    rows: dict[str, Any] = {
        "revision": found["revision"],
        "published": ", ".join(str(published[key]) for key in ("kind", "source") if published.get(key)) or None,
        "corpus": found["corpus"],
        "tokens": None if found["tokens"] is None else f"{found['tokens']:,}",
        "neurons": None,
        "signs": found["sign_convention"],
        "recorded in": found["dtype"],
        "fingerprint": found["fingerprint"],
        "made": found["made"],
    }
    classes: dict[str, int] = {}
    if not index.is_imported:
        for counts in index.reader.class_counts().values():
            for io_class, count in counts.items():
                classes[str(io_class)] = classes.get(str(io_class), 0) + count
        rows["neurons"] = f"{sum(classes.values()):,} in {len(index.reader.class_counts())} layers"
    kind = "imported numbers" if index.is_imported else "an index of gated neurons"
    return notebook_index(found["model"], kind, rows, dict(sorted(classes.items(), key=lambda item: -item[1])))
