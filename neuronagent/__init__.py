"""neuronagent: what the gated MLP neurons of language models do.

    import neuronagent

    index = neuronagent.open("model.db")
    index.neuron("31.9634").record.io_class
    index.explain("31.9634")["combinations"]["gate-_in-"]["verdict"]
    index.search(io_classes=("depletion",), sort="cos_in_out").rows
    index.to_pandas()
    neuronagent.write_report(index, "pages", ["31.9634"])

    live = neuronagent.open_live(index)
    neuronagent.attribute(live, "Please try", " again").neurons
    neuronagent.ablate(live, "Please try again", ["31.9634"], combination="gate-_in-").compared["loss"]

Reading an index loads no torch. `build_index` (which does) and everything else is imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuronagent.domain import IOClass, NeuronId, SignCombination
    from neuronagent.errors import NeuronagentError
    from neuronagent.service.build import BuildOptions, build_index
    from neuronagent.service.live.ablate import ablate
    from neuronagent.service.live.activate import activate, top_neurons
    from neuronagent.service.live.attribute import attribute
    from neuronagent.service.live.concept import search_concept
    from neuronagent.service.live.model import open_live
    from neuronagent.service.live.steer import steer
    from neuronagent.service.llm.agent import explore_neurons
    from neuronagent.service.llm.campaign import explain_neurons, score_stored
    from neuronagent.service.llm.options import LLMOptions
    from neuronagent.service.llm.preview import preview
    from neuronagent.service.lookup import Example, Index, Neuron
    from neuronagent.service.lookup import open_index as open
    from neuronagent.service.predict.fit import FitOptions as PredictOptions
    from neuronagent.service.predict.fit import fit as fit_maps
    from neuronagent.service.predict.scoring import score as score_maps
    from neuronagent.service.reporting.page_options import PageOptions
    from neuronagent.service.reporting.site import write_report
    from neuronagent.service.tracing import trace
    from neuronagent.store.search import SearchQuery

__all__ = [
    "BuildOptions",
    "Example",
    "IOClass",
    "Index",
    "LLMOptions",
    "Neuron",
    "NeuronId",
    "NeuronagentError",
    "PageOptions",
    "PredictOptions",
    "SearchQuery",
    "SignCombination",
    "ablate",
    "activate",
    "attribute",
    "build_index",
    "explain_neurons",
    "explore_neurons",
    "fit_maps",
    "open",
    "open_live",
    "preview",
    "score_maps",
    "score_stored",
    "search_concept",
    "steer",
    "top_neurons",
    "trace",
    "write_report",
]

_HOMES = {
    "BuildOptions": ("neuronagent.service.build", "BuildOptions"),
    "Example": ("neuronagent.service.lookup", "Example"),
    "IOClass": ("neuronagent.domain", "IOClass"),
    "Index": ("neuronagent.service.lookup", "Index"),
    "LLMOptions": ("neuronagent.service.llm.options", "LLMOptions"),
    "Neuron": ("neuronagent.service.lookup", "Neuron"),
    "NeuronId": ("neuronagent.domain", "NeuronId"),
    "NeuronagentError": ("neuronagent.errors", "NeuronagentError"),
    "PageOptions": ("neuronagent.service.reporting.page_options", "PageOptions"),
    "PredictOptions": ("neuronagent.service.predict.fit", "FitOptions"),
    "SearchQuery": ("neuronagent.store.search", "SearchQuery"),
    "SignCombination": ("neuronagent.domain", "SignCombination"),
    "ablate": ("neuronagent.service.live.ablate", "ablate"),
    "activate": ("neuronagent.service.live.activate", "activate"),
    "attribute": ("neuronagent.service.live.attribute", "attribute"),
    "build_index": ("neuronagent.service.build", "build_index"),
    "explain_neurons": ("neuronagent.service.llm.campaign", "explain_neurons"),
    "explore_neurons": ("neuronagent.service.llm.agent", "explore_neurons"),
    "fit_maps": ("neuronagent.service.predict.fit", "fit"),
    "open": ("neuronagent.service.lookup", "open_index"),
    "open_live": ("neuronagent.service.live.model", "open_live"),
    "preview": ("neuronagent.service.llm.preview", "preview"),
    "score_maps": ("neuronagent.service.predict.scoring", "score"),
    "score_stored": ("neuronagent.service.llm.campaign", "score_stored"),
    "search_concept": ("neuronagent.service.live.concept", "search_concept"),
    "steer": ("neuronagent.service.live.steer", "steer"),
    "top_neurons": ("neuronagent.service.live.activate", "top_neurons"),
    "trace": ("neuronagent.service.tracing", "trace"),
    "write_report": ("neuronagent.service.reporting.site", "write_report"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'neuronagent' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
