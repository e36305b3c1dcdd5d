"""What a fit is asked for, and what is decided before anything is computed: models, texts, pairs, identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuronagent.domain import SPLITS, Split, clip
from neuronagent.errors import CorpusError, UsageError
from neuronagent.predictability.scores import DEFAULT_FIT, FitKind, Pair, parse_pairs
from neuronagent.service.lookup import Index, open_index
from neuronagent.service.predict.activations import BATCH_TOKENS
from neuronagent.service.predict.fits import TextFacts, fit_folder
from neuronagent.service.predict.fitting import READ
from neuronagent.service.predict.fitting_models import Models, check_tokens, model_facts, open_models
from neuronagent.service.predict.plan import Plan, Shape, check_memory, free_memory, plan_passes
from neuronagent.service.predict.texts import FEW_DOCUMENTS, TokenTexts, check_source, corpus_texts, source_texts
from neuronagent.service.progress import Progress
from neuronagent.settings import chosen_db


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What to fit, and on what.

    `db` None: the index that the command line would take. `text` None: the index's own corpus; else a source as for
    `neuronagent index`. `tokens`: about so many are read of all splits together (None: all). `context`: a window of w
    tokens, None for whole texts. `rank`: maps of at most this rank. `source_model`: maps from the layers of another
    model, a folder or a name on the hub. `memory`: bytes that sums may take beside the models (None: half of what is
    free). `replace`: another fit of this name makes room. `checkpoint_seconds`: least time between two checkpoints.
    """

    db: str | None = None
    name: str = DEFAULT_FIT
    pairs: str = "adjacent"
    kind: FitKind = FitKind.LEAST_SQUARES
    text: str | None = None
    tokens: int | None = None
    context: int | None = None
    intercept: bool = False
    rank: int | None = None
    source_model: str | None = None
    model: str | None = None
    device: str = "auto"
    batch_tokens: int = BATCH_TOKENS
    memory: int | None = None
    replace: bool = False
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is decided before anything is computed."""

    db: str
    options: FitOptions
    folder: Path
    models: Models
    pairs: tuple[Pair, ...]
    texts: Mapping[Split, TokenTexts]
    facts: TextFacts
    shape: Shape
    memory: int

    @property
    def identity(self) -> str:
        """Hash of all that the maps are a function of."""
        options = self.options
        said = {
            "format": 1,
            "models": [
                model_facts(self.models.target),
                None if self.models.are_one else model_facts(self.models.source),
            ],
            "dtype": self.models.target.dtype,
            "text": self.facts["fingerprint"],
            "pairs": self.pairs,
            "kind": options.kind.value,
            "intercept": options.intercept,
            "rank": options.rank,
            "context": options.context,
            "batch_tokens": options.batch_tokens,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def plan(self, pairs: Sequence[Pair]) -> Plan:
        """The passes that fit `pairs`.

        Raises:
            UsageError: there is too little memory for any.
        """
        return plan_passes(pairs, self.shape, self.memory)


def prepare(options: FitOptions, progress: Progress) -> Prepared:
    """Open models and texts, and decide what is fitted.

    Raises:
        As `fit`.
    """
    _check(options)
    db = chosen_db(options.db)
    folder = fit_folder(db, options.name)
    with open_index(db) as index:
        # What is wrong with an index is told before its model is loaded; an imported one has none to load.
        corpus = corpus_texts(index) if options.text is None and not index.is_imported else None
        if options.source_model is None and not index.is_imported:
            parse_pairs(options.pairs, len(index.reader.layers()))  # a mistake in them, too
        progress.start("loading the model", 0, "")
        models = open_models(index, options.model, options.source_model, options.device)
        pairs = parse_pairs(options.pairs, models.target.n_layers, None if models.are_one else models.source.n_layers)
        texts = _texts(index, models, options, corpus, progress)
    check_tokens(models, texts, options.context)
    shape = Shape(
        kind=options.kind,
        sources={pair.source: models.source.d_mlp for pair in pairs},
        targets={pair.target: models.target.d_mlp for pair in pairs},
        shared=models.are_one,
        tokens=max(options.batch_tokens, texts.max_tokens),
        rank=options.rank,
        intercept=options.intercept,
    )
    least = min(models.source.d_mlp, models.target.d_mlp)
    if options.rank is not None and options.rank >= least:
        raise UsageError(
            f"maps between layers of {least:,} neurons have no rank {options.rank:,}", remedy="lower --rank"
        )
    memory = free_memory(models.target.device) if options.memory is None else options.memory
    check_memory(pairs, shape, memory)
    by_split = {split: texts.of(split) for split in SPLITS}
    return Prepared(
        db=db,
        options=options,
        folder=folder,
        models=models,
        pairs=pairs,
        texts=by_split,
        facts=TextFacts(
            source=texts.source,
            own=texts.own,
            fingerprint=texts.fingerprint,
            max_tokens=texts.max_tokens,
            first=texts.first,
            limit=options.tokens,
            tokens={split.value: own.tokens for split, own in by_split.items()},
            documents={split.value: own.documents for split, own in by_split.items()},
        ),
        shape=shape,
        memory=memory,
    )


def warnings_of(ready: Prepared) -> list[str]:
    """What a reader of the numbers must know."""
    found: list[str] = []
    tokens, neurons = ready.texts[Split.EXPLAIN].tokens, max(ready.shape.sources.values())
    if tokens < neurons:
        found.append(
            f"the maps are fitted on {tokens:,} tokens, fewer than the {neurons:,} neurons that they read: "
            + ("many maps fit these tokens exactly" if ready.options.kind is FitKind.ADAGRAD else "the ridge decides")
        )
    for split, use in ((Split.SELECT, "choose the ridge on"), (Split.TEST, "score on")):
        documents = ready.texts[split].documents
        if documents < FEW_DOCUMENTS:
            said = "no document" if not documents else f"only {documents} document{'s' * (documents > 1)}"
            found.append(f"{split.value} has {said} to {use}")
    return found


def _check(options: FitOptions) -> None:
    check_source(options.text)
    for name, value in (("tokens", options.tokens), ("context", options.context), ("rank", options.rank),
                        ("batch tokens", options.batch_tokens), ("memory", options.memory)):  # fmt: skip
        if value is not None and value < 1:
            raise UsageError(f"{name} {value} is too small", remedy="allowed: 1 and more")
    if options.kind is FitKind.ADAGRAD and (options.intercept or options.rank is not None):
        what = "an intercept" if options.intercept else "a rank"
        raise UsageError(
            f"the paper's maps (Adagrad) have no {what.split()[-1]}", remedy=f"fit {what} with least squares"
        )


def _texts(
    index: Index, models: Models, options: FitOptions, corpus: TokenTexts | None, progress: Progress
) -> TokenTexts:
    """The texts of all splits.

    Raises:
        CorpusError: nothing to fit on, or to choose on.
    """
    if corpus is not None:
        texts = corpus if options.tokens is None else corpus.limited(options.tokens)
    else:
        assert options.text is not None
        progress.start(f"reading {clip(options.text)}", 0, "")
        texts = source_texts(index, models.target, options.text, tokens=options.tokens)
    for split in READ:
        if not texts.of(split).tokens:
            raise CorpusError(
                f"{clip(texts.source)} has no document of the split {split.value} among {texts.documents:,}",
                remedy="read more of it (--tokens), or name a text of more documents (--text)",
            )
    return texts
