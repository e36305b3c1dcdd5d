"""Sentences about a neuron that code can vouch for: its class and geometry in words, and what it writes.

Everything here is a function of stored numbers; nothing is a guess about meaning.
"""

from __future__ import annotations

from neuronagent.domain import (
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


def _direction(cosine: float) -> str:
    if cosine > 0.5:
        return "the same way"
    if cosine < -0.5:
        return "the opposite way"
    return "another way"


def geometry_sentence(geometry: Geometry, io_class: IOClass) -> str:
    """The three cosines as one sentence: where gate and in look, where out points, and what follows."""
    return (
        f"gate and in look {_direction(geometry.cos_gate_in)} (cos {geometry.cos_gate_in:+.2f}); "
        f"out points {_direction(geometry.cos_in_out)} to in ({geometry.cos_in_out:+.2f}) and "
        f"{_direction(geometry.cos_gate_out)} to gate ({geometry.cos_gate_out:+.2f}): {class_meaning(io_class)}"
    )


def written_tokens(record: NeuronRecord, combination: SignCombination) -> tuple[VocabularyEntry, ...]:
    """The tokens that the neuron promotes in `combination`: nearest to w_out, or to −w_out where `post` is negative."""
    out = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT]
    return out.top if combination.write_sign > 0 else out.bottom


def suppressed_tokens(record: NeuronRecord, combination: SignCombination) -> tuple[VocabularyEntry, ...]:
    """The tokens that the neuron suppresses in `combination`."""
    out = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT]
    return out.bottom if combination.write_sign > 0 else out.top
