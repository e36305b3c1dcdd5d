"""Functional roles and neighbours as dictionaries: what `--json`, the Python API and the cards are made of."""

from __future__ import annotations

from typing import Any

from neuronagent.domain import IO_CLASS_THRESHOLD, IO_CLASSES, ROLES, IOClass, NeuronRecord, Role
from neuronagent.service.lookup import Index, Neuron

NO_ROLE = "none"


def role_view(record: NeuronRecord) -> dict[str, Any]:
    """A neuron's functional role with the numbers behind it; variance, skew and kurtosis are in `vocabulary.out`.

    `double_checks` says whether the score means anything: only where gate and in are not aligned.
    """
    found = record.role
    return {
        "role": found.role.value if found.role else None,
        "attention_score": found.attention_score,
        "attention_head": found.attention_head,
        "entropy_share": found.entropy_share,
        "double_checking": found.double_checking,
        "double_checking_token": found.double_checking_token,
        "double_checks": abs(record.geometry.cos_gate_in) <= IO_CLASS_THRESHOLD,
    }


def neighbours_view(neuron: Neuron) -> dict[str, Any]:
    """A neuron's neighbours by list, strongest first, or `available` false with the reason."""
    found = neuron.neighbours()
    if found is None:
        said = neuron.index.info.get("neighbours") or {}
        return {"available": False, "reason": said.get("reason") or "this index was made without neighbours"}
    return {"available": True} | {
        kind.value: [{"neuron": str(n.neuron), "cosine": round(n.cosine, 5)} for n in listed]
        for kind, listed in found.items()
    }


def roles_view(index: Index) -> dict[str, Any]:
    """What `neuronagent info --roles --json` prints: thresholds, counts, IO class × role, input manipulators by layer.

    `expected` is what independence would give: (neurons of the class) · (neurons of the role) / neurons.
    """
    thresholds = index.info.get("roles")
    view: dict[str, Any] = {
        "available": thresholds is not None,
        "reason": None if thresholds is not None else "this index was made without functional roles",
        "thresholds": thresholds,
        "input_manipulators": _input_manipulators(index),
    }
    if thresholds is None:
        return view
    counts = index.reader.role_counts()
    roles = (*ROLES, None)
    by_role = {role: sum(n for (r, _), n in counts.items() if r is role) for role in roles}
    by_class = {c: sum(n for (_, other), n in counts.items() if other == c) for c in IO_CLASSES}
    total = sum(counts.values())

    def cell(io_class: IOClass, role: Role | None) -> dict[str, float]:
        expected = by_class[io_class] * by_role[role] / total if total else 0.0
        return {"count": counts.get((role, io_class), 0), "expected": expected}

    return view | {
        "neurons": total,
        "roles": {_name(role): by_role[role] for role in roles},
        "io_classes": {str(c): n for c, n in by_class.items() if n},
        "contingency": {str(c): {_name(role): cell(c, role) for role in roles} for c in IO_CLASSES if by_class[c]},
    }


def _name(role: Role | None) -> str:
    return role.value if role else NO_ROLE


def _input_manipulators(index: Index) -> dict[str, Any]:
    """The share of neurons of any class but orthogonal output, in all and by layer."""
    by_layer: dict[str, float] = {}
    manipulators = neurons = 0
    for layer, classes in index.reader.class_counts().items():
        mine, all_of_it = sum(n for c, n in classes.items() if c.manipulates_input), sum(classes.values())
        by_layer[str(layer)] = mine / all_of_it
        manipulators, neurons = manipulators + mine, neurons + all_of_it
    return {"share": manipulators / neurons if neurons else None, "by_layer": by_layer}
