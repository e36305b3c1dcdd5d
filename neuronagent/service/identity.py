"""What an index is a function of, and what it says of itself.

The identity holds everything that a recorded number depends on; its hash is the fingerprint by which results are cited.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronagent.domain import IO_CLASS_THRESHOLD, SPLITS
from neuronagent.index.corpus import Corpus
from neuronagent.layout import TokenTable
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.models.weights import ModelWeights
from neuronagent.service.devices import products, weights_dtype
from neuronagent.service.options import BuildOptions
from neuronagent.service.steps import Step

PROCESSING = "norm folded into gate and in; W_U folded and centred; LayerNorm models centred over d_model; float32"


def identity_of(options: BuildOptions, model: ModelWeights, corpus: Corpus, max_tokens: int) -> dict[str, Any]:
    """What the recorded numbers are a function of; its hash is the index's fingerprint."""
    return {
        "weights_hash": model.weights_hash,
        "config_hash": model.config_hash,
        "dtype": options.dtype,
        "processing": PROCESSING,
        "post_norm": options.post_norm,
        "bos": options.bos,
        "sign_convention": options.sign_convention,
        "corpus": corpus.fingerprint,
        "max_tokens": max_tokens,
        "salt": options.salt,
        "k": options.k,
    }


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name an index."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def weights_identity(options: BuildOptions, model: ModelWeights) -> dict[str, Any]:
    """What the numbers of an index without a corpus are a function of."""
    return {
        "weights_only": True,
        "weights_hash": model.weights_hash,
        "config_hash": model.config_hash,
        "processing": PROCESSING,
        "post_norm": options.post_norm,
        "sign_convention": options.sign_convention,
    }


def token_table(model: ModelWeights, corpus: Corpus | None) -> TokenTable:
    """The vocabulary of `model`, counted in `corpus`; without one every count is 0."""
    none = np.zeros((len(SPLITS), model.vocab_size), dtype=np.int64)
    return TokenTable(
        token_bytes=model.token_bytes(),
        norm_unembedding=model.unembedding().norm(dim=1).numpy(),
        norm_embedding=model.embedding().norm(dim=1).numpy(),
        counts=none if corpus is None else corpus.token_counts(model.vocab_size),
    )


def weights_info(options: BuildOptions, model: ModelWeights) -> dict[str, Any]:
    """What an index without a corpus says of itself."""
    identity = weights_identity(options, model)
    return {
        "fingerprint": fingerprint_of(identity),
        "identity": identity,
        "weights_only": True,
        "model": _model_facts(model),
        "checkpoint": _checkpoint(options),
        "sign_convention": options.sign_convention,
        "io_class_threshold": IO_CLASS_THRESHOLD,
        "post_norm": options.post_norm,
        **_made(),
    }


def index_info(
    options: BuildOptions,
    model: ModelWeights,
    corpus: Corpus,
    identity: dict[str, Any],
    fingerprint: str,
    max_tokens: int,
    clock: Mapping[str, float],
    sign_flips: Mapping[str, float] | None,
) -> dict[str, Any]:
    splits, lengths = corpus.table().splits, corpus.lengths
    return {
        "fingerprint": fingerprint,
        "identity": identity,
        "model": _model_facts(model) | {"dtype": weights_dtype(options.dtype)},
        "checkpoint": _checkpoint(options),
        "sign_convention": options.sign_convention,
        "io_class_threshold": IO_CLASS_THRESHOLD,
        "corpus": {
            "source": options.text,
            "fingerprint": corpus.fingerprint,
            "texts": corpus.n_texts,
            "documents": len(set(corpus.table().documents)),
            "tokens": corpus.n_tokens,
            "skipped": corpus.skipped,
            "tokens_by_split": {s.value: int(lengths[splits == s.position].sum()) for s in SPLITS},
        },
        "max_tokens": max_tokens,
        "token_budget": options.token_budget,
        "bos": options.bos,
        "post_norm": options.post_norm,
        "salt": options.salt,
        "k": options.k,
        "batch_tokens": options.tokens_per_batch,
        "sign_flips": sign_flips,
        "seconds": {name: round(seconds, 2) for name, seconds in clock.items()},
        **_made(),
    }


def _model_facts(model: ModelWeights) -> dict[str, Any]:
    return {
        "name": _display_name(model.name),
        "source": _source(model.name),
        "revision": model.revision,
        "weights_hash": model.weights_hash,
        "config_hash": model.config_hash,
        "family": model.family,
        "activation": model.activation,
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "d_mlp": model.d_mlp,
        "vocab_size": model.vocab_size,
        "dtype": model.dtype,
        "bos_id": model.bos_id,
    }


def _checkpoint(options: BuildOptions) -> dict[str, Any] | None:
    """Which checkpoint of a training run was asked for, and the step that its name states; None for no certain one."""
    name = options.checkpoint or options.revision
    if name is None:
        return None
    step = Step.of(name)
    return {"name": name, **(step.view() if step else {"stage": None, "step": None})}


def _made() -> dict[str, Any]:
    """When, and with what."""
    return {
        "versions": {
            "neuronagent": version("neuronagent"),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "python": platform.python_version(),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _source(name: str) -> str:
    """Where the model is, for a process with another working directory too."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def _display_name(source: str) -> str:
    """A hub name as it is; of a local folder its own name, since a path says nothing to others."""
    folder = Path(source).expanduser()
    return folder.resolve().name if folder.is_dir() else source


def measured_sign_flips(options: BuildOptions, model: GatedModel, corpus: Corpus) -> dict[str, float] | None:
    """Share of x_gate and x_in whose sign differs from float32's on the first texts; None for a float32 index."""
    if options.dtype == "float32":
        return None
    ids, lengths, _ = corpus.padded(np.arange(min(4, corpus.n_texts)))
    valid = torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])
    exact = load_model(options.model, revision=options.revision, dtype="float32", device="cpu")
    seen: list[list[torch.Tensor]] = []
    for reader in (model, exact):
        kept: list[torch.Tensor] = []

        def sink(layer: int, x_gate: torch.Tensor, x_in: torch.Tensor, kept: list[torch.Tensor] = kept) -> None:
            kept.append(torch.stack([x_gate.cpu()[valid] > 0, x_in.cpu()[valid] > 0]))

        with products(options.dtype if reader is model else "float32"):
            reader.record(torch.from_numpy(ids), sink)
        seen.append(kept)
    flips = torch.stack([(a != b).float().mean(dim=(1, 2)) for a, b in zip(*seen, strict=True)]).mean(dim=0)
    return {"x_gate": float(flips[0]), "x_in": float(flips[1]), "tokens": float(valid.sum())}
