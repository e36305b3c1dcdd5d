"""What is said of a neuron's weights follows from them."""

from __future__ import annotations

from dataclasses import replace

from neuronagent.domain import Geometry, IOClass
from neuronagent.explain.describe import geometry_sentence

ALIGNED = Geometry(cos_gate_in=0.7, cos_gate_out=-0.1, cos_in_out=-0.8, norm_gate=1.0, norm_in=2.0, norm_out=0.5)


def test_each_cosine_is_said_and_what_follows() -> None:
    assert geometry_sentence(ALIGNED, IOClass.parse("depletion")) == (
        "gate and in point the same way (cos +0.70); out points the opposite way to in (cos −0.80) and not aligned "
        "with gate (cos −0.10): what it detects, it takes away"
    )


def test_a_vector_of_zeros_lies_nowhere_and_nothing_is_said_of_its_cosines() -> None:
    dead = replace(ALIGNED, norm_gate=0.0, cos_gate_in=0.0, cos_gate_out=0.0)
    orthogonal = IOClass.parse("orthogonal output")
    assert geometry_sentence(dead, orthogonal) == "gate is all zeros: but for biases it writes nothing"
    both = replace(dead, norm_out=0.0, cos_in_out=0.0)
    assert geometry_sentence(both, orthogonal) == "gate and out are all zeros: but for biases it writes nothing"
