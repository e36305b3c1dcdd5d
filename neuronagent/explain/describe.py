"""Sentences about a neuron that code can vouch for: its class and geometry in words, and what it writes.

Everything here is a function of stored numbers; nothing is a guess about meaning.
"""

from __future__ import annotations

from neuronagent.domain import (
    IO_CLASS_THRESHOLD,
    Geometry,
    IOClass,
    NeuronRecord,
    SignCombination,
    Vector,
    VocabularyEntry,
    VocabularyMatrix,
)

_CLASS_MEANING = {
    "enrichment": "what it detects, it writes more of",
    "conditional enrichment": "it writes more of what in detects, where the gate allows",
    "proportional change": "it writes along what the gate detects, in proportion to in",
    "orthogonal output": "it writes something else than it detects",
    "conditional depletion": "it takes away what in detects, where the gate allows",
    "depletion": "what it detects, it takes away",
}


def class_meaning(io_class: IOClass) -> str:
    """What an IO class says of input and output, in one clause."""
    return _CLASS_MEANING[io_class.name]


def geometry_sentence(geometry: Geometry, io_class: IOClass) -> str:
    """The three cosines as one sentence: how gate, in and out lie to each other, and what follows.

    A vector of zeros lies nowhere, whatever its cosines are stored as: that is said instead.
    """
    norms = {"gate": geometry.norm_gate, "in": geometry.norm_in, "out": geometry.norm_out}
    zeros = [name for name, norm in norms.items() if norm == 0]
    if zeros:
        return f"{' and '.join(zeros)} {'is' if len(zeros) == 1 else 'are'} all zeros: but for biases it writes nothing"
    parts = (
        _relation("gate and in point the same way", "gate and in point opposite ways", "gate and in are not aligned",
                  geometry.cos_gate_in),
        _relation("out points the same way as in", "out points the opposite way to in", "out is not aligned with in",
                  geometry.cos_in_out),
        _relation("the same way as gate", "the opposite way to gate", "not aligned with gate", geometry.cos_gate_out),
    )  # fmt: skip
    return f"{parts[0]}; {parts[1]} and {parts[2]}: {class_meaning(io_class)}"


def _relation(same: str, opposite: str, neither: str, cosine: float) -> str:
    """The phrase for a cosine, under the threshold that IO classes use."""
    phrase = same if cosine > IO_CLASS_THRESHOLD else opposite if cosine < -IO_CLASS_THRESHOLD else neither
    return f"{phrase} (cos {cosine:+.2f})".replace("-", "−")


def written_tokens(record: NeuronRecord, combination: SignCombination) -> tuple[VocabularyEntry, ...]:
    """The tokens that the neuron promotes in `combination`: nearest to w_out, or to −w_out where `post` is negative."""
    out = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT]
    return out.top if combination.write_sign > 0 else out.bottom


def suppressed_tokens(record: NeuronRecord, combination: SignCombination) -> tuple[VocabularyEntry, ...]:
    """The tokens that the neuron suppresses in `combination`."""
    out = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT]
    return out.bottom if combination.write_sign > 0 else out.top
