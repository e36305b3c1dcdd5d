"""A tiny Llama whose neurons are known because they were built, not trained: the ground truth of many tests.

Two layers of sixteen SwiGLU neurons, d_model 64, sixty tokens, written by hand on the axes of the residual stream:

1. An embedding is +1 on the axis of its class (digit, capital, lower, punctuation), −¼ on those of the others; `not`
   has an axis of its own; sixteen axes are a token's random identity. No token is 0 on an axis that a neuron reads.
2. Attention of layer 0 is uniform over the tokens so far (queries and keys are 0) and does one thing: it writes the
   mean of a hidden random number per token on the noise axis, which only 0.3 reads. Capitals have no hidden number,
   so neither the token nor its class says where 0.3 lands. Layer 1 has no attention.
3. Layer 0 has planted activity and writes where nothing reads, so all its neurons are of class orthogonal output:
   0.0 digits gate+_in+, capitals gate+_in−; 0.1 `not` gate+_in+; 0.2 punctuation gate−_in−; 0.3 capitals in gate+,
   in+ or in− by the noise; 0.4 random by token; 0.5–0.15 background.
4. Layer 1 has planted geometry on the four class axes: one neuron of each of the eleven IO classes, then five with a
   cosine of exactly ±½, which counts as 0. (0, 1, −1, 0)·x is exactly 0 for digits, punctuation, <s> and <unk>.

Vectors here are *processed*: stored weights are divided by the norm's scale, which is random (in layer 1 a power of
two, so that folding is exact). Signs are therefore known per token in closed form; truth is in the raw convention.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neuronagent.domain import IO_CLASSES, IOClass, NeuronId, SignCombination

Array = NDArray[np.float64]

D_MODEL, LAYERS, NEURONS = 64, 2, 16
BOS, UNK = "<s>", "<unk>"
DIGITS = tuple(f" {digit}" for digit in range(10))
_NAMES = "Anna Berlin Cairo David Emma Friday Greece Hugo India July Kenya Lisa Monday Nora"
_WORDS = """
    a and apple bird blue book by cold door eat far field green house in it light long make not of old paper river
    see small to water
"""
CAPITALS = tuple(f" {word}" for word in _NAMES.split())
LOWER = tuple(f" {word}" for word in _WORDS.split())
PUNCTUATION = (".", ",", "!", "?", ";", ":")
TOKENS: tuple[str, ...] = (BOS, UNK, *DIGITS, *CAPITALS, *LOWER, *PUNCTUATION)
"""Token texts by id; a word carries the space before it, so that tokens put together are the text."""

CLASSES: tuple[tuple[str, ...], ...] = (DIGITS, CAPITALS, LOWER, PUNCTUATION)
_DIGIT, _CAPITAL, _LOWER, _PUNCTUATION = range(4)
_SPECIAL, _HIDDEN, _NOT, _NOISE = 4, 5, 6, 7
_IDENTITY = slice(8, 24)
_WRITTEN = tuple(range(28, 33))
_BACKGROUND = slice(40, 56)
_NOISE_GAIN = 8.0

PROMOTED: tuple[tuple[str, ...], ...] = (
    (" apple", " bird", " book"),
    (" river", " water", " field"),
    (" Berlin", " Cairo", " India"),
    (" cold", " green", " old"),
    (" 3", " 5", " 8"),
)
"""The tokens that neurons 0.0 to 0.4 promote with +w_out."""


@dataclass(frozen=True, kw_only=True)
class NeuronTruth:
    """What is known of a neuron, in the raw convention.

    `sign` is the factor that normalising multiplies w_in and w_out by. `combinations` names the sign combination at
    each token; tokens where x_gate or x_in is exactly 0 are in `zeros`; with `contextual` the sign of x_in is decided
    by earlier tokens and `combinations` is empty. `promoted` and `suppressed` are those of +w_out.
    """

    neuron: NeuronId
    about: str
    io_class: IOClass
    cos_gate_in: float
    cos_gate_out: float
    cos_in_out: float
    sign: int
    combinations: Mapping[str, SignCombination]
    zeros: frozenset[str]
    promoted: frozenset[str]
    suppressed: frozenset[str]
    contextual: bool = False

    def tokens(self, combination: SignCombination) -> frozenset[str]:
        """The tokens at which the neuron is in `combination`."""
        return frozenset(token for token, found in self.combinations.items() if found is combination)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """The saved model, what is true of it, and its processed weights: gate, in and out are (layer, neuron, d_model)."""

    folder: Path
    truth: Mapping[NeuronId, NeuronTruth]
    embedding: Array
    unembedding: Array
    gate: Array
    input: Array
    out: Array

    def ids(self, text: str) -> list[int]:
        """Token ids of a text of `corpus`, BOS included, without the tokenizer."""
        spaced = "".join(f" {c}" if c in PUNCTUATION else c for c in text).split()
        return [0, *(TOKENS.index(w if w in PUNCTUATION else f" {w}") for w in spaced)]

    def pre_activations(self, ids: list[int]) -> tuple[Array, Array]:
        """x_gate and x_in, each (layer, token, neuron), in float64 from the processed weights: a slow reference."""
        residual = self.embedding[ids].copy()
        hidden = _normed(residual)[:, _HIDDEN]
        residual[:, _NOISE] += _NOISE_GAIN * np.cumsum(hidden) / np.arange(1, len(ids) + 1)
        gates: list[Array] = []
        inputs: list[Array] = []
        for layer in range(LAYERS):
            x = _normed(residual)
            gates.append(x @ self.gate[layer].T)
            inputs.append(x @ self.input[layer].T)
            residual += (gates[-1] / (1 + np.exp(-gates[-1])) * inputs[-1]) @ self.out[layer]
        return np.stack(gates), np.stack(inputs)


def _normed(x: Array) -> Array:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)


def build(folder: Path, seed: int = 0) -> Planted:
    """Write the model and its tokenizer into `folder`, ready for `from_pretrained`, and say what is true of it."""
    generator = np.random.default_rng(seed)
    embedding, unembedding = _embedding(generator), _unembedding(generator)
    gate, inp, out = np.zeros((3, LAYERS, NEURONS, D_MODEL))
    about = [*_plant_activity(gate[0], inp[0], out[0], embedding, generator), *_plant_geometry(gate[1], inp[1], out[1])]
    truth = {
        NeuronId(layer, index): _truth(
            NeuronId(layer, index), *about[layer * NEURONS + index], gate, inp, out, embedding, unembedding
        )
        for layer in range(LAYERS)
        for index in range(NEURONS)
    }
    _save_model(folder, embedding, unembedding, gate, inp, out, generator)
    _tokenizer().save_pretrained(folder)
    return Planted(
        folder=folder, truth=truth, embedding=embedding, unembedding=unembedding, gate=gate, input=inp, out=out
    )


def _class_of(token: str) -> int | None:
    return next((number for number, members in enumerate(CLASSES) if token in members), None)


def _embedding(generator: np.random.Generator) -> Array:
    """(token, d_model); multiples of 2⁻¹² throughout, so that float32 holds them as they are."""
    rows = np.zeros((len(TOKENS), D_MODEL))
    rows[:, _IDENTITY] = generator.normal(0, 0.5, (len(TOKENS), 16))
    rows[:, [_DIGIT, _CAPITAL, _LOWER, _PUNCTUATION, _NOT]] = -0.25
    for number, token in enumerate(TOKENS):
        kind = _class_of(token)
        rows[number, _SPECIAL if kind is None else kind] = 1.0
    rows[TOKENS.index(" not"), _NOT] = 1.0
    for members in (DIGITS, LOWER, PUNCTUATION):
        # As many of each sign in a class: the noise has no side that it is on in the long run.
        signs = generator.permutation(np.resize([-1.0, 1.0], len(members)))
        rows[[TOKENS.index(token) for token in members], _HIDDEN] = signs * generator.uniform(0.75, 1.25, len(members))
    # BOS is before every token: a large number would settle the sign for all short texts.
    rows[0, _HIDDEN] = 0.0625
    return np.round(rows * 4096) / 4096


def _unembedding(generator: np.random.Generator) -> Array:
    """Processed but not centred, (token, d_model): 4 on the axis of its class, 6 on that of its group, noise."""
    rows = np.zeros((len(TOKENS), D_MODEL))
    rows[:, [*range(4), *_WRITTEN]] = generator.uniform(-0.25, 0.25, (len(TOKENS), 4 + len(_WRITTEN)))
    rows[:, _BACKGROUND] = generator.normal(0, 0.5, (len(TOKENS), 16))
    for axis, members in [*enumerate(CLASSES), *zip(_WRITTEN, PROMOTED, strict=True)]:
        rows[[TOKENS.index(token) for token in members], axis] += 4.0 if axis < 4 else 6.0
    return rows


About = tuple[str, IOClass]


def _decided(embedding: Array, generator: np.random.Generator) -> Array:
    """A random vector over the identity axes that no token is so near to orthogonal to that float32 would decide."""
    while True:
        vector = generator.normal(size=16)
        if np.abs(embedding[:, _IDENTITY] @ vector).min() > 0.02:
            return vector


def _plant_activity(
    gate: Array, inp: Array, out: Array, embedding: Array, generator: np.random.Generator
) -> list[About]:
    """Fill layer 0, (neuron, d_model) each; nobody reads what it writes."""
    gate[0, [_DIGIT, _CAPITAL]] = 1.0
    # Lower case and punctuation get small values of both signs: never exactly 0. 1.125 makes cos(gate,in) positive.
    inp[0, [_DIGIT, _CAPITAL, _LOWER]] = 1.125, -1.0, 0.25
    gate[1, _NOT] = inp[1, _NOT] = 1.0
    # Elsewhere x_gate is a sixteenth of a unit: most of what 0.2 writes must be written at punctuation, gate being −.
    gate[2, [*range(4), _SPECIAL]] = -0.1875
    gate[2, _PUNCTUATION] -= 0.25
    inp[2, _PUNCTUATION] = -4.0
    gate[3, _CAPITAL] = inp[3, _NOISE] = 1.0
    gate[4, _IDENTITY], inp[4, _IDENTITY] = (_decided(embedding, generator) for _ in range(2))
    for index, axis in enumerate(_WRITTEN):
        out[index, axis] = 0.5
    for index in range(len(_WRITTEN), NEURONS):
        gate[index, _IDENTITY], inp[index, _IDENTITY] = (_decided(embedding, generator) / 4 for _ in range(2))
        out[index, _BACKGROUND] = generator.normal(size=16) / 8
    # Rounding must not decide the normalised convention: cos(gate,in) is positive or exactly 0 in this layer.
    inp *= np.where((gate * inp).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    told = ["digits and capitals", "the word not", "punctuation", "capitals, in± by context", "random by token"]
    told += ["background"] * (NEURONS - len(told))
    gate *= 2.0
    return [(line, IOClass.parse("orthogonal output")) for line in told]


_A, _B, _C, _AB, _HALF, _APART = (
    np.array(v, dtype=np.float64)
    for v in [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 0), (0.5,) * 4, (0, 1, -1, 0)]
)
_GEOMETRY: tuple[tuple[str, Array, Array, Array], ...] = (
    ("enrichment", _A, _A, _A),
    ("atypical enrichment", _A, _B, _AB),
    ("conditional enrichment", _A, _B, _B),
    ("atypical conditional enrichment", _A, _AB, _B),
    ("proportional change", _A, _B, _A),
    ("atypical proportional change", _AB, _A, _B),
    ("orthogonal output", _A, _B, _C),
    ("conditional depletion", _A, _B, -_B),
    ("atypical conditional depletion", _A, _AB, -_B),
    ("depletion", _A, _A, -_A),
    ("atypical depletion", _A, _B, _A - _B),
    # From here a cosine is exactly ±½: cos(gate,in) and cos(gate,out); cos(in,out); cos(gate,out); cos(in,out) = −½;
    # cos(gate,in) = cos(in,out) = −½, the only neuron that normalising flips.
    ("conditional enrichment", _HALF, _A, _A),
    ("orthogonal output", _APART, _HALF, _A),
    ("orthogonal output", _HALF, _APART, _A),
    ("orthogonal output", _APART, _HALF, -_A),
    ("proportional change", _HALF, -_A, _HALF),
)
"""Class, gate, in and out on the four class axes, of neurons 1.0 to 1.15."""


def _plant_geometry(gate: Array, inp: Array, out: Array) -> list[About]:
    """Fill layer 1, (neuron, d_model) each."""
    for index, (_, *vectors) in enumerate(_GEOMETRY):
        # Unlike lengths, powers of two: a class must not depend on them and products stay exact.
        for place, vector, length in zip((gate, inp, out), vectors, (2.0, 0.5, 4.0), strict=True):
            place[index, :4] = length * vector
    edge = len(IO_CLASSES)
    return [
        (f"{label}, on the edge" if i >= edge else label, IOClass.parse(label))
        for i, (label, *_) in enumerate(_GEOMETRY)
    ]


def _cosine(u: Array, v: Array) -> float:
    # One root of the product: exact where both lengths are powers of two, and where u = ±v.
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def _truth(
    neuron: NeuronId,
    about: str,
    io_class: IOClass,
    gate: Array,
    inp: Array,
    out: Array,
    embedding: Array,
    unembedding: Array,
) -> NeuronTruth:
    g, i, o = (weights[neuron.layer, neuron.index] for weights in (gate, inp, out))
    x_gate, x_in, logits = embedding @ g, embedding @ i, unembedding @ o / np.linalg.norm(o)
    contextual = bool(i[_NOISE])
    zero = x_gate * x_in == 0
    # What is not exactly 0 must be far from it, or float32 would decide.
    assert contextual or np.abs(x_gate * x_in)[~zero].min() > 1e-5, f"{neuron} is undecided"
    return NeuronTruth(
        neuron=neuron,
        about=about,
        io_class=io_class,
        cos_gate_in=_cosine(g, i),
        cos_gate_out=_cosine(g, o),
        cos_in_out=_cosine(i, o),
        sign=-1 if g @ i < 0 else 1,
        combinations={}
        if contextual
        else {
            token: SignCombination.parse(("+" if x_gate[n] > 0 else "-") + ("+" if x_in[n] > 0 else "-"))
            for n, token in enumerate(TOKENS)
            if not zero[n]
        },
        zeros=frozenset() if contextual else frozenset(TOKENS[int(n)] for n in np.flatnonzero(zero)),
        # The noise of the unembedding is below ½ along any w_out, what is planted is above 1.
        promoted=frozenset(TOKENS[int(n)] for n in np.flatnonzero(logits > 1) if about != "background"),
        suppressed=frozenset(TOKENS[int(n)] for n in np.flatnonzero(logits < -1) if about != "background"),
        contextual=contextual,
    )


def _save_model(
    folder: Path,
    embedding: Array,
    unembedding: Array,
    gate: Array,
    inp: Array,
    out: Array,
    generator: np.random.Generator,
) -> None:
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=D_MODEL,
        intermediate_size=NEURONS,
        num_hidden_layers=LAYERS,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=None,
        tie_word_embeddings=False,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    weights = {name: np.zeros(tuple(value.shape)) for name, value in model.state_dict().items()}
    scales: list[Array] = [generator.uniform(0.5, 2.0, D_MODEL), np.exp2(generator.integers(-1, 2, D_MODEL))]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        weights[f"{prefix}.input_layernorm.weight"] = generator.uniform(0.5, 2.0, D_MODEL)
        weights[f"{prefix}.post_attention_layernorm.weight"] = scales[layer]
        weights[f"{prefix}.mlp.gate_proj.weight"] = gate[layer] / scales[layer]
        weights[f"{prefix}.mlp.up_proj.weight"] = inp[layer] / scales[layer]
        weights[f"{prefix}.mlp.down_proj.weight"] = out[layer].T
    attention_scale = weights["model.layers.0.input_layernorm.weight"]
    weights["model.layers.0.self_attn.v_proj.weight"][0, _HIDDEN] = 1 / attention_scale[_HIDDEN]
    weights["model.layers.0.self_attn.o_proj.weight"][_NOISE, 0] = _NOISE_GAIN
    weights["model.norm.weight"] = generator.uniform(0.5, 2.0, D_MODEL)
    weights["model.embed_tokens.weight"] = embedding
    weights["lm_head.weight"] = unembedding / weights["model.norm.weight"]
    model.load_state_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items()})
    model.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Word by word, with the byte-level alphabet of GPT-2 in which a space before a word is Ġ."""
    vocabulary = {token.replace(" ", "Ġ"): number for number, token in enumerate(TOKENS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, unk_token=UNK)


def corpus(n_texts: int, seed: int = 0) -> list[str]:
    """Texts over the vocabulary: some words or digits, then one to four sentences that begin with a capital.

    No text begins with a capital: before it there must be something for the noise of 0.3 to come from. `not` is as
    rare as any word; no two texts are equal, as copies would share a split.
    """
    generator = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < n_texts:
        words = [generator.choice(LOWER + DIGITS) for _ in range(generator.randint(4, 7))]
        words.append(generator.choice(("", ":", "!", "?")))
        words.extend(_sentence(generator) for _ in range(generator.randint(1, 4)))
        texts["".join(words).strip()] = None
    return list(texts)


def _sentence(generator: random.Random) -> str:
    kinds = generator.choices((DIGITS, CAPITALS, LOWER), weights=(2, 2, 6), k=generator.randint(5, 10))
    words = [generator.choice(CAPITALS), *(generator.choice(kind) for kind in kinds)]
    if generator.random() < 0.4:
        words.insert(generator.randint(2, 5), generator.choice((",", ";", ":")))
    return "".join(words) + generator.choice((".", "!", "?"))
