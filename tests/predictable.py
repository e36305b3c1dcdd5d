"""A tiny Llama whose neurons' predictability is known because it was built: the ground truth of `neuronagent predict`.

    folder = predictable.build(tmp_path / "model").folder      three layers of sixteen neurons, d_model 96
    predictable.corpus(60)                                     documents of 30 to 400 words; the model reads 128 tokens
    predictable.KINDS[NeuronId(1, 3)]                          what is known of a neuron: a `Kind`
    predictable.linear_map(1)                                  the planted rows of M_{0→1}, [16, 16], NaN where none is
    predictable.world()                                        model, texts and index of them, once per session
    predictable.scored(folder)                                 a copy of the index with a scored fit of adjacent layers

How it is known:

1. Axis 0 of the residual stream is 4,096 at every token, all else is of order 1: RMS norm divides by the same number
   everywhere, to 1e-5, and a neuron whose gate reads axis 0 is always open. Such a neuron is linear in what it reads.
2. Every neuron writes on an axis of its own. `Kind.FROM_0` and `FROM_1` read those of one earlier layer with random
   weights: exact linear functions of that layer's post.
3. `TOKEN`: gate and in read random axes of the embedding. Those that layer 1 reads are read by nobody before.
4. Attention is uniform (queries and keys are 0). Layer 0 writes the mean of BOS's flag so far, 1 ÷ (position + 1), for
   `POSITION`, and of a hidden number; layer 1 that of another hidden number, which only `CONTEXT` of layer 1 reads:
   neither the token, nor the position, nor layer 0 foretells it, but for the token's own share in the mean.
5. `MIXED` multiplies what both earlier layers wrote; `DEAD` has no gate: its post is 0 at every token.
"""

from __future__ import annotations

import atexit
import json
import random
import shutil
import tempfile
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neuronagent.domain import NeuronId
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.service.predict.fit import FitOptions, fit
from neuronagent.service.predict.scoring import score

Array = NDArray[np.float64]

D_MODEL, LAYERS, NEURONS, LONGEST = 96, 3, 16, 128
TOKENS: tuple[str, ...] = ("<s>", "<unk>", *(f" {a}{b}{c}" for a in "bdfglmnprt" for b in "aeio" for c in "bdfglmnprt"))
"""Letters alone, as a byte-level tokeniser cuts a word before a digit."""
WORDS = len(TOKENS) - 2
SALT = "predictable"
_ONE, _FLAG, _POSITION, _HIDDEN_A, _CONTEXT_A, _HIDDEN_B, _CONTEXT_B = range(7)
_FIRST, _SECOND = slice(8, 24), slice(24, 40)  # of a token's identity, read by layer 0 and by layer 1
_WRITTEN = [slice(40 + 16 * layer, 56 + 16 * layer) for layer in range(LAYERS)]
_SIZE = 4096.0
_OPEN = 32.0


class Kind(Enum):
    """What a neuron's activation is a function of."""

    FROM_0 = "an exact linear function of layer 0"
    FROM_1 = "an exact linear function of layer 1"
    TOKEN = "a function of the token"
    CONTEXT = "token and context"
    POSITION = "a function of the position"
    MIXED = "products of what earlier layers wrote"
    DEAD = "always 0"


_LAYERS: tuple[tuple[Kind, ...], ...] = (
    (*[Kind.TOKEN] * 10, *[Kind.CONTEXT] * 5, Kind.DEAD),
    (*[Kind.FROM_0] * 8, *[Kind.TOKEN] * 4, Kind.POSITION, *[Kind.CONTEXT] * 2, Kind.DEAD),
    (*[Kind.FROM_1] * 6, *[Kind.FROM_0] * 5, *[Kind.MIXED] * 3, Kind.POSITION, Kind.DEAD),
)
KINDS: dict[NeuronId, Kind] = {
    NeuronId(layer, index): kind for layer, kinds in enumerate(_LAYERS) for index, kind in enumerate(kinds)
}


def of_kind(layer: int, kind: Kind) -> list[int]:
    """The neurons of a kind in a layer."""
    return [index for index, own in enumerate(_LAYERS[layer]) if own is kind]


@dataclass(frozen=True, kw_only=True)
class Predictable:
    """The saved model."""

    folder: Path


@dataclass(frozen=True, kw_only=True)
class PredictableWorld:
    """The model, the file of its documents, and an index of them."""

    model: Predictable
    source: Path
    db: Path


def linear_map(target: int, source: int | None = None, seed: int = 0) -> Array:
    """The planted map onto `target` from `source` (default: the layer before), `[16, 16]`: NaN in rows of neurons that
    are not linear in that source."""
    source = target - 1 if source is None else source
    kind = (Kind.FROM_0, Kind.FROM_1)[source]
    found = np.full((NEURONS, NEURONS), np.nan)
    rows = of_kind(target, kind)
    found[rows] = np.random.default_rng([seed, source, target]).normal(0, 1, (len(rows), NEURONS))
    return found


def build(folder: Path, seed: int = 0) -> Predictable:
    """Write the model and its tokenizer into `folder`."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(seed + 1)
    gate, into, out = np.zeros((3, LAYERS, NEURONS, D_MODEL))
    for layer, kinds in enumerate(_LAYERS):
        for index, kind in enumerate(kinds):
            out[layer, index, _WRITTEN[layer].start + index] = 1.0
            if kind is Kind.DEAD:
                into[layer, index, _FIRST] = 1.0
            elif kind in (Kind.TOKEN, Kind.CONTEXT, Kind.MIXED):
                _fill_gated(gate[layer, index], into[layer, index], kind, layer, generator)
            else:
                gate[layer, index, _ONE] = _OPEN / _SIZE  # x̂ is divided by the norm, which weights undo
                if kind is Kind.POSITION:
                    into[layer, index, _POSITION] = 4.0 / _OPEN
                else:
                    source = 0 if kind is Kind.FROM_0 else 1
                    into[layer, index, _WRITTEN[source]] = linear_map(layer, source, seed)[index] / _OPEN
    _save(folder, gate, into, out, generator)
    _tokenizer().save_pretrained(folder)
    return Predictable(folder=folder)


def _fill_gated(gate: Array, into: Array, kind: Kind, layer: int, generator: np.random.Generator) -> None:
    """Gates of order 1 on axes that nobody else reads linearly."""
    own = _FIRST if layer == 0 else _SECOND
    if kind is Kind.MIXED:
        gate[_WRITTEN[1]] = generator.normal(0, 0.5, NEURONS)
        into[_WRITTEN[0]] = generator.normal(0, 0.5, NEURONS)
        return
    gate[own] = generator.normal(0, 1, 16)
    if kind is Kind.TOKEN:
        into[own] = generator.normal(0, 1, 16)
    elif layer == 0:
        into[_CONTEXT_A] = 2.0
    else:
        gate[own] = 0.0
        gate[_ONE] = _OPEN / _SIZE
        into[_CONTEXT_B] = float(generator.uniform(1, 2)) / _OPEN


def _save(folder: Path, gate: Array, into: Array, out: Array, generator: np.random.Generator) -> None:
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=D_MODEL,
        intermediate_size=NEURONS,
        num_hidden_layers=LAYERS,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=LONGEST,
        bos_token_id=0,
        eos_token_id=None,
        tie_word_embeddings=False,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    undo = _SIZE / np.sqrt(D_MODEL)  # the norm makes axis 0 √d
    weights = {name: np.zeros(tuple(value.shape)) for name, value in model.state_dict().items()}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        weights[f"{prefix}.input_layernorm.weight"] = np.ones(D_MODEL)
        weights[f"{prefix}.post_attention_layernorm.weight"] = np.exp2(generator.integers(-1, 2, D_MODEL))
        scale = undo / weights[f"{prefix}.post_attention_layernorm.weight"]
        weights[f"{prefix}.mlp.gate_proj.weight"] = gate[layer] * scale
        weights[f"{prefix}.mlp.up_proj.weight"] = into[layer] * scale
        weights[f"{prefix}.mlp.down_proj.weight"] = out[layer].T
    for layer, pairs in enumerate((((_FLAG, _POSITION), (_HIDDEN_A, _CONTEXT_A)), ((_HIDDEN_B, _CONTEXT_B),))):
        for row, (read, written) in enumerate(pairs):
            weights[f"model.layers.{layer}.self_attn.v_proj.weight"][row, read] = undo
            weights[f"model.layers.{layer}.self_attn.o_proj.weight"][written, row] = 4.0
    embedding = np.zeros((len(TOKENS), D_MODEL))
    embedding[:, _ONE], embedding[0, _FLAG] = _SIZE, 1.0
    embedding[1:, [_HIDDEN_A, _HIDDEN_B]] = generator.choice([-1.0, 1.0], (len(TOKENS) - 1, 2))
    embedding[1:, _FIRST.start : _SECOND.stop] = generator.normal(0, 0.25, (len(TOKENS) - 1, 32))
    weights["model.embed_tokens.weight"] = embedding
    weights["model.norm.weight"] = np.ones(D_MODEL)
    head = generator.normal(0, 1, (len(TOKENS), D_MODEL)) * undo / 8
    head[:, :8] = 0.0
    weights["lm_head.weight"] = head
    model.load_state_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items()})
    model.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token.replace(" ", "Ġ"): number for number, token in enumerate(TOKENS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def corpus(documents: int, seed: int = 0) -> list[str]:
    """Documents of 30 to 400 words, in each of which some words are more frequent than elsewhere."""
    generator = random.Random(seed)
    found: list[str] = []
    for _ in range(documents):
        favoured = generator.sample(range(WORDS), 12)
        length = round(30 * (400 / 30) ** generator.random())
        words = (
            generator.choice(favoured) if generator.random() < 0.3 else generator.randrange(WORDS)
            for _ in range(length)
        )
        found.append("".join(TOKENS[2 + word] for word in words).strip())
    return found


def write_corpus(file: Path, documents: list[str]) -> Path:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return file


@cache
def world() -> PredictableWorld:
    """The one world of a session: 120 documents."""
    holder = tempfile.TemporaryDirectory(prefix="neuronagent-predictable-")
    atexit.register(holder.cleanup)
    folder = Path(holder.name)
    model = build(folder / "model")
    source = write_corpus(folder / "documents.jsonl", corpus(120))
    db = folder / "predictable.db"
    build_index(BuildOptions(model=str(model.folder), text=str(source), db=str(db), salt=SALT, max_tokens=LONGEST))
    return PredictableWorld(model=model, source=source, db=db)


@cache
def _scored() -> Path:
    folder = world().db.parent / "scored"
    folder.mkdir()
    db = Path(shutil.copy(world().db, folder / "model.db"))
    fit(FitOptions(db=str(db), device="cpu"))
    score(str(db), device="cpu")
    return db


def scored(folder: Path) -> Path:
    """The index with a scored fit of neighbouring layers, made once per session, copied to `folder`/index."""
    return shutil.copytree(_scored().parent, folder / "index") / _scored().name
