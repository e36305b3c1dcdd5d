"""GLUScope pages made up for tests: the published layout, numbers that fit together, and hooks to break them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination

HOOKS = ("hook_post", "hook_pre_linear", "hook_pre", "swish")
MODEL = "made/model-7b"
Table = Mapping[str, Any]


def silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return (x / (1 + np.exp(-x))).astype(np.float32)


def hooks_of(combination: SignCombination) -> tuple[str, ...]:
    """GLUScope lists the activation only where the gate is negative."""
    return HOOKS if combination.gate_sign < 0 else HOOKS[:3]


def make_site(root: Path, neurons: Sequence[NeuronId], *, examples: int = 16, seed: int = 0) -> Path:
    """A site with pages of `neurons` below `root/made-7b`, and its pages.json."""
    rng = np.random.default_rng(seed)
    for neuron in neurons:
        make_neuron(root / "made-7b" / f"L{neuron.layer}" / f"N{neuron.index}", neuron, rng, examples)
    tree = [
        {
            "title": "made-7b",
            "children": [
                {
                    "title": f"L{n.layer}",
                    "children": [{"title": f"N{n.index}", "url": f"made-7b/L{n.layer}/N{n.index}/vis.html"}],
                }
                for n in neurons
            ],
        }
    ]
    (root / "pages.json").write_text(json.dumps(tree))
    return root


def make_neuron(folder: Path, neuron: NeuronId, rng: np.random.Generator, examples: int) -> None:
    folder.mkdir(parents=True)
    names: list[str] = []
    extremes: dict[tuple[str, str], float] = {}
    for combination in COMBINATIONS:
        for hook in hooks_of(combination):
            made = [make_example(rng, combination, hook, neuron) for _ in range(examples)]
            made.sort(key=lambda item: -abs(item[1]))
            for rank, (table, value) in enumerate(made):
                names.append(f"{combination.value}_{hook}_example_{rank}.json")
                (folder / names[-1]).write_text(json.dumps(table))
                extremes.setdefault((combination.value, hook), value)
    (folder / "vis.html").write_text(page(neuron, names, extremes))


def make_example(
    rng: np.random.Generator, combination: SignCombination, hook: str, neuron: NeuronId
) -> tuple[dict[str, Any], float]:
    """An example whose peak, two tokens before its end, is at a token that only this neuron and combination have; and
    its value."""
    length = int(rng.integers(12, 30))
    peak = length - 3
    gate = rng.normal(0, 0.3, length).astype(np.float32)
    inner = rng.normal(0, 0.05, length).astype(np.float32)
    gate[peak] = combination.gate_sign * (1 + rng.random() / 4)
    inner[peak] = combination.in_sign * (2 + 4 * rng.random())
    gate[np.arange(length) != peak] = np.clip(gate[np.arange(length) != peak], -0.9, 0.9)
    words = [f" w{w}" for w in rng.integers(0, 40, length)]
    words[0], words[peak] = "<|endoftext|>", trigger(neuron, combination)
    columns = {"hook_post": silu(gate) * inner, "hook_pre_linear": inner, "hook_pre": gate, "swish": silu(gate)}
    member = (gate * combination.gate_sign > 0) & (inner * combination.in_sign > 0)
    own = [f"{combination.value}_{hook}"]
    if combination.gate_sign > 0 and hook == "hook_pre":
        own.append(f"{combination.value}_swish")
    extra = [np.where(member, columns[label[len(combination.value) + 1 :]], np.float32(0)) for label in own]
    values = np.stack([*extra, *columns.values()], axis=1).astype(np.float64)
    magnitude = np.where(member, np.abs(columns[hook]), -1)
    place = int(magnitude.argmax())
    return {"tokens": words, "values": values.tolist(), "labels": [*own, *HOOKS]}, float(columns[hook][place])


def trigger(neuron: NeuronId, combination: SignCombination) -> str:
    """The token at which a made neuron fires in a combination."""
    return f" fire{combination.position}of{neuron.index}"


def page(neuron: NeuronId, names: Sequence[str], extremes: Mapping[tuple[str, str], float], model: str = MODEL) -> str:
    """A page as GLUScope writes it."""
    heads = "".join(f"<td><h4>{c.value}</h4></td>" for c in COMBINATIONS)
    shares = "".join(f"<td>Frequency: <b>{share}%</b>.</td>" for share in ("40.25", "30.25", "20.25", "9.25"))
    rows = "".join("<tr>" + "".join(cell(extremes, c, hook) for c in COMBINATIONS) + "</tr>" for hook in HOOKS)
    links = "".join(f'<div class="circuit-viz" data-url="./{name}"></div>' for name in names)
    table = f"<table><tr>{heads}</tr><tr>{shares}</tr>{rows}</table>"
    heading = (
        f"<h1>Model: <b>{model}</b></h1><h2>Layer: <b>{neuron.layer}</b>. Neuron Index: <b>{neuron.index}</b></h2>"
    )
    return f"<!DOCTYPE html><html><body>{heading}{table}{links}<script>let x = '<td>';</script></body></html>"


def cell(extremes: Mapping[tuple[str, str], float], combination: SignCombination, hook: str) -> str:
    value = extremes.get((combination.value, hook))
    if value is None:  # the activation in gate+, which has no list
        value = 0.5
    mean = value / 10
    return (
        f"<td><b>{hook}</b>:<br>Max: <b>{max(value, 0):.2f}</b>;<br>Min: <b>{min(value, 0):.2f}</b>;<br>"
        f"Avg: <b>{mean:.2f}</b>.</td>"
    )
