"""`neuronagent import hf-activations`: a data set of activation summaries into an index, without texts or positions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronagent.domain import NeuronId, clip
from neuronagent.errors import InputError, NotFoundError
from neuronagent.importers.activations import ActivationReader, Columns, read_columns
from neuronagent.importers.problems import Problems
from neuronagent.importers.tables import open_tables
from neuronagent.index.sources import describe, documents
from neuronagent.published import PublishedBatch
from neuronagent.service.importing.provenance import Imported, imported_info
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.published import write_published

ABSENT = (
    "weights: no geometry, no IO class, no nearest tokens",
    "token counts, output mass and histograms: no threshold τ and no base rate",
    "samples: nothing is known between the lists and the means",
    "where in its text a listed value is, and the texts' words: a later pass of the model could tell",
)


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """The corpus that the data set's text indices mean; `texts` and `hash` are None where they are not known."""

    source: str
    revision: str | None = None
    texts: int | None = None
    hash: str | None = None


def import_activations(
    source: str,
    db: str,
    *,
    revision: str | None = None,
    neurons: Sequence[NeuronId] = (),
    model: str | None = None,
    model_revision: str | None = None,
    corpus: str | None = None,
    corpus_revision: str | None = None,
    corpus_texts: int | None = None,
    licence: str | None = None,
    sign_convention: str = "normalised",
    progress: Progress | None = None,
) -> Imported:
    """Read the data set in the folder, or of the hub's name, `source` into the new index `db`.

    `neurons`: only these. `corpus`, a source as for `neuronagent index`, or the number of its texts, is what text
    indices are checked against. What the data set does not state is recorded as given.

    Raises:
        NotFoundError, UsageError, InputError: the source cannot be used.
        IndexMismatchError: `db` holds something that must not be replaced.
        StorageError: no room.
    """
    progress, problems = progress or Silent(), Problems()
    tables = open_tables(source, revision)
    columns = read_columns(tables.columns, problems)
    facts = corpus_facts(corpus, corpus_revision, corpus_texts)
    reader = ActivationReader(columns, problems, texts=facts.texts, wanted=neurons)
    progress.start("reading the data set", 0, "neurons")
    info = imported_info(
        kind="hf-activations",
        source=tables.name,
        licence=licence,
        model={"name": model or "unknown", "revision": model_revision, "activation": None},
        corpus={**asdict(facts), "tokens": None},
        sign_convention=sign_convention,
        published=_published(columns),
        absent=ABSENT,
        counts={},
        problems=problems,
        content=hashlib.sha256(f"{tables.content()} {sorted(map(str, neurons))} {facts}".encode()).hexdigest(),
    )
    info["provenance"]["revision"] = revision
    repaired = 0

    def batches() -> Iterator[PublishedBatch]:
        nonlocal repaired
        for batch in reader.batches(tables.parts(columns.names)):
            repaired += sum(map(bool, batch.repaired))
            progress.advance(reader.neurons)
            yield batch
        if not reader.neurons:
            raise InputError(f"{clip(source, 100)} has no row of a wanted neuron" if neurons else f"{source} is empty")
        counts = {"neurons": reader.neurons, "examples": reader.examples, "repaired neurons": repaired}
        info["provenance"] |= {"read": counts, "problems": [asdict(problem) for problem in problems.all]}

    write_published(db, info=info, batches=batches())
    return Imported(
        db=db,
        fingerprint=info["fingerprint"],
        model=model,
        neurons=reader.neurons,
        examples=reader.examples,
        problems=problems.all,
        repaired=repaired,
    )


def _published(columns: Columns) -> list[str]:
    said = ["frequency of each sign combination"] if columns.frequency else []
    kinds = dict.fromkeys((quantity, what) for _, quantity, what in columns.others)
    said += [f"mean of {quantity.value} in each combination" for quantity, what in kinds if what == "mean"]
    return said + [
        f"strongest values of {quantity.value}, with their texts' places in the corpus"
        for quantity, what in kinds
        if what == "max_values"
    ]


def corpus_facts(source: str | None, revision: str | None, texts: int | None) -> CorpusFacts:
    """How many texts the corpus has: counted in a local one, asked of the hub, or as given.

    Raises:
        CorpusError: the corpus cannot be read.
        InputError: it has another number of texts than was given.
        NotFoundError: the hub does not have it, or does not say how many texts it has.
    """
    if source is None:
        return CorpusFacts(source="not stated", revision=revision, texts=texts)
    counted, digest = _count_hub(source, revision) if describe(source).kind == "hub" else _count_local(source)
    if counted is None and texts is None:
        raise NotFoundError(f"the hub does not say how many texts {source} has", remedy="give --corpus-texts")
    if counted is not None and texts not in (None, counted):
        raise InputError(f"{source} has {counted:,} texts, not {texts:,}", remedy="check --corpus and its revision")
    name = Path(source).name if Path(source).exists() else source
    return CorpusFacts(source=name, revision=revision, texts=counted or texts, hash=digest)


def _count_local(source: str) -> tuple[int, str]:
    """Texts of a local corpus, and a hash of them in their order."""
    digest, count = hashlib.sha256(), 0
    for document in documents(source):
        count += 1
        digest.update(hashlib.sha256(document.text.encode()).digest())
    return count, digest.hexdigest()


def _count_hub(source: str, revision: str | None) -> tuple[int | None, str | None]:
    """What the hub says of a data set: its number of rows, and the commit."""
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub import HfApi

    name, _, split = source.removeprefix("hf:").partition("@")
    name, _, config = name.partition(":")
    try:
        splits: Any = datasets.load_dataset_builder(name, config or None, revision=revision).info.splits or {}
        commit = HfApi().dataset_info(name, revision=revision).sha
    except (OSError, ValueError, LookupError, RuntimeError, DatasetsError) as error:
        hint = "check the name, --corpus-revision and the network, or give --corpus-texts alone"
        raise NotFoundError(f"cannot look up {clip(source, 100)}: {clip(str(error), 150)}", remedy=hint) from error
    found = splits.get(split or "train")
    return (None if found is None else int(found.num_examples) or None), commit
