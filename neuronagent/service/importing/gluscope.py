"""`neuronagent import gluscope`: published pages into an index with full traces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from neuronagent.domain import NeuronId
from neuronagent.importers.gluscope import Pages, read_pages
from neuronagent.importers.problems import Problems
from neuronagent.importers.sites import FolderSite
from neuronagent.importers.web import WebSite
from neuronagent.service.importing.provenance import Imported, imported_info
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.published import batch_of, write_published

PUBLISHED = (
    "frequency of each sign combination, in percent with two decimals",
    "mean and extreme of each quantity in each combination, two decimals; the other extreme is printed as 0.00",
    "up to 16 texts per combination and quantity, up to two tokens behind the peak",
    "all four quantities at every token of these texts",
)
ABSENT = (
    "weights: no geometry, no IO class, no nearest tokens",
    "token counts, output mass and histograms: no threshold τ and no base rate",
    "samples: nothing is known between the lists and the means",
    "the texts behind the peak, their names, and the tokenizer's token ids",
)
_CORPUS = "not named on the pages (GLUScope's paper: 20M tokens of Dolma)"


def is_url(source: str) -> bool:
    """Whether a source is read over the network."""
    return "://" in source


def import_gluscope(
    source: str,
    db: str,
    *,
    neurons: Sequence[NeuronId] = (),
    revision: str | None = None,
    sign_convention: str = "normalised",
    progress: Progress | None = None,
) -> Imported:
    """Read the GLUScope pages in the folder or at the URL `source` into the new index `db`.

    `neurons`: only these. Pages do not say the model's revision nor the sign convention: they are recorded as given.

    Raises:
        NotFoundError, UsageError, InputError: the source cannot be used.
        IndexMismatchError: `db` holds something that must not be replaced.
        StorageError: no room.
    """
    progress, problems = progress or Silent(), Problems()
    site = WebSite(source) if is_url(source) else FolderSite(source)
    progress.start("reading pages", len(neurons), "neurons")

    def read(done: int, total: int) -> None:
        if done == 1:
            progress.start("reading pages", total, "neurons")
        progress.advance(done)

    pages = read_pages(site, neurons, problems, read)
    info = imported_info(
        kind="gluscope",
        source=site.name,
        licence=site.licence(),
        model={"name": pages.model or "unknown", "revision": revision, "activation": pages.activation},
        corpus={"source": _CORPUS, "revision": None, "texts": None, "tokens": None},
        sign_convention=sign_convention,
        published=PUBLISHED,
        absent=ABSENT,
        counts={"neurons": len(pages.neurons), "examples": pages.examples, "texts": len(pages.texts)},
        problems=problems,
        content=_content(pages),
    )
    write_published(
        db,
        info=info,
        tokens=pages.tokens,
        texts=pages.texts,
        batches=[batch_of([neuron for neuron, _ in pages.neurons])],
        traces=((neuron.neuron, traces) for neuron, traces in pages.neurons),
    )
    return Imported(
        db=db,
        fingerprint=info["fingerprint"],
        model=pages.model,
        neurons=len(pages.neurons),
        examples=pages.examples,
        problems=problems.all,
    )


def _content(pages: Pages) -> str:
    """A hash of everything that is written."""
    digest = hashlib.sha256(json.dumps([pages.tokens, pages.texts], ensure_ascii=True).encode())
    batch = batch_of([neuron for neuron, _ in pages.neurons])
    for array in (batch.layers, batch.indices, batch.frequency, batch.statistics, batch.values, batch.texts):
        digest.update(array.tobytes())
    if batch.positions is not None:
        digest.update(batch.positions.tobytes())
    for neuron, traces in pages.neurons:
        digest.update(str(neuron.neuron).encode())
        for trace in traces:
            digest.update(f"{trace.text} {trace.start}".encode() + trace.values.tobytes())
    return digest.hexdigest()
