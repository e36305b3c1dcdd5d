"""The demo: indexes the standard library with the embedded model and explains a few of its neurons.

The neurons shown are chosen by how well their combinations are told apart on the `select` split; what is printed of
them is scored on `test`, which the choice has not seen.
"""

from __future__ import annotations

from pathlib import Path

from neuronagent.domain import NeuronId, Split
from neuronagent.service.explain import ensure_explained
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.tracing import trace
from neuronagent.settings import data_folder

MODEL = Path(__file__).resolve().parent.parent / "demo" / "stdlib-4m"
SOURCE = "python-stdlib"
TOKENS = 300_000
_CANDIDATES = 128
_SHOWN = 3


def demo_db() -> Path:
    """Where the demo leaves its index."""
    return data_folder() / "demo.db"


def run_demo(db: str | None = None, progress: Progress | None = None, *, tokens: int = TOKENS) -> list[str]:
    """Build the demo's index (or take the one that is there) and explain the chosen neurons; returns their names."""
    from neuronagent.service.build import BuildOptions, build_index

    progress = progress or Silent()
    target = db or str(demo_db())
    Path(target).expanduser().absolute().parent.mkdir(parents=True, exist_ok=True)
    build_index(BuildOptions(model=str(MODEL), text=SOURCE, db=target, token_budget=tokens, device="cpu"), progress)
    with Index(target) as index:
        chosen = choose(index, progress)
        trace(target, str(MODEL), chosen, progress=progress, device="cpu")
        index.explainer.forget(chosen)
        for neuron in chosen:
            ensure_explained(index.explainer, target, neuron)
    return [str(neuron) for neuron in chosen]


def choose(index: Index, progress: Progress) -> list[NeuronId]:
    """The candidates whose combinations are told apart best on `select`, at most one of a layer.

    Candidates are neurons spread evenly over the model, so that every layer has its turn, and of those the ones with
    a rule for each of the four combinations.
    """
    layers = index.reader.layers()
    total = sum(layers.values())
    everyone = [NeuronId(layer, i) for layer, width in layers.items() for i in range(width)]
    candidates = everyone[:: max(1, total // _CANDIDATES)]
    progress.start("choosing neurons", len(candidates), "neurons")
    found: list[tuple[float, NeuronId]] = []
    for done, neuron in enumerate(candidates, start=1):
        rules = index.explainer.rules(neuron)
        if all(rule is not None and rule.rules for rule in rules.values()):
            apart = index.explainer.told_apart(neuron, Split.SELECT)
            if apart is not None:
                found.append((apart.lo, neuron))
        progress.advance(done)
    found.sort(key=lambda item: (-item[0], item[1]))
    best: dict[int, NeuronId] = {}
    for _, neuron in found:
        best.setdefault(neuron.layer, neuron)
    return list(best.values())[:_SHOWN]
