"""What a server's pages show of an index beside neurons: facts and a search, one layer, all layers.

What the core tools show and no more: of examples only the explain split is searched, and texts of examples are on no
page but a neuron's own. Layers, classes and shares are those of `model_info`, `search_neurons` and `layer_summary`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from neuronagent import wording
from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.report.server_content import (
    CosineBand,
    Extremes,
    Fact,
    Frame,
    LayerCombination,
    LayerContent,
    LayerRow,
    LayersContent,
    SearchContent,
    Share,
)
from neuronagent.service import tool_layers, tools, views
from neuronagent.service.lookup import Index
from neuronagent.service.reporting import browse_search
from neuronagent.service.reporting.addresses import colour, layer_href, neuron_href, search_href
from neuronagent.store.reader import IndexReader

_PAIRS = {"cos_gate_in": "cos(gate,in)", "cos_gate_out": "cos(gate,out)", "cos_in_out": "cos(in,out)"}
_MEASURES = _PAIRS | {"kurtosis": "kurtosis of cos(out, ·)", "norm_out": "‖w_out‖", "mass": "output mass Σ|post|"}

_infos: weakref.WeakKeyDictionary[IndexReader, dict[str, Any]] = weakref.WeakKeyDictionary()


def frame(index: Index, live: str | None) -> Frame:
    """What stands on every page; `live`: why the model cannot be run, None if it can."""
    return Frame(model=_model(index), provenance=tools.provenance(index), live=live)


def search_content(index: Index, form: Mapping[str, str], live: str | None) -> SearchContent:
    """The entry: what the index is of, and the neurons that `form` asks for. What is wrong with the form is the
    page's `error`."""
    error, found = None, None
    try:
        found = browse_search.listed(index, form)
    except (UsageError, NotFoundError) as wrong:
        error = str(wrong)
    info = _info(index)
    neurons = sum(index.reader.layers().values())
    return SearchContent(
        frame=frame(index, live),
        facts=_facts(info, len(index.reader.layers()), neurons),
        classes=_classes(info["io_classes"], lambda name: search_href({"class": name})),
        neurons=neurons,
        form=browse_search.form_as_sent(form),
        error=error,
        found=found,
    )


def layers_content(index: Index, live: str | None) -> LayersContent:
    """All layers, and how many neurons of each class they have."""
    info = _info(index)

    def row(layer: int, neurons: int) -> LayerRow:
        counts = info["io_classes_by_layer"].get(str(layer), {})
        classes = _classes(counts, lambda name: search_href({"class": name, "layer": str(layer)}))
        return LayerRow(layer=layer, href=layer_href(layer), neurons=neurons, classes=classes)

    return LayersContent(
        frame=frame(index, live),
        rows=[row(layer, neurons) for layer, neurons in sorted(index.reader.layers().items())],
        classes=_classes(info["io_classes"], lambda name: search_href({"class": name})),
    )


def layer_content(index: Index, layer: int, live: str | None) -> LayerContent:
    """One layer at a glance.

    Raises:
        NotFoundError: no such layer.
    """
    found = tool_layers.layer_summary(index, layer, response_format="detailed")
    layers = sorted(index.reader.layers())
    place, total = layers.index(layer), found.get("neurons", 0)
    of_layer = {"layer": str(layer)}
    return LayerContent(
        frame=frame(index, live),
        layer=layer,
        layers=len(layers),
        previous=layer_href(layers[place - 1]) if place else None,
        next=layer_href(layers[place + 1]) if place + 1 < len(layers) else None,
        everything=search_href(of_layer),
        neurons=total,
        classes=_classes(found.get("io_classes", {}), lambda name: search_href(of_layer | {"class": name})),
        roles=[
            Share(name=name, colour="", atypical=False, count=n, share=n / total if total else 0.0,
                  href=search_href(of_layer | {"role": name}))
            for name, n in found.get("roles", {}).items()
        ],
        cosines=[
            CosineBand(
                name=_PAIRS[row["pair"]], median=row.get("median"), q10=row.get("q10"), q90=row.get("q90"),
                lo=row.get("baseline_lo"), hi=row.get("baseline_hi"), outside=row.get("share_outside"),
            )
            for row in found.get("cosines", [])
        ],
        combinations=[
            LayerCombination(
                name=row["combination"], mean_frequency=row.get("mean_frequency"),
                median_frequency=row.get("median_frequency"), mean_mass_share=row.get("mean_mass_share"),
                main_of=row.get("main_of", 0),
            )
            for row in found.get("combinations", [])
        ],
        extremes=[_extremes(name, neurons) for name, neurons in found.get("extremes", {}).items()],
    )  # fmt: skip


def _info(index: Index) -> dict[str, Any]:
    """What the index says of itself; its neurons are counted once while it is open."""
    found = _infos.get(index.reader)
    if found is None:
        found = _infos[index.reader] = views.info_view(index)
    return found


def _extremes(name: str, neurons: list[Any]) -> Extremes:
    measure, _, end = name.partition(" ")
    signed = measure not in ("norm_out", "mass")
    return Extremes(
        what=f"{_MEASURES.get(measure, measure)}, {end}",
        neurons=[
            {"neuron": neuron, "href": neuron_href(neuron), "value": value, "signed": signed}
            for neuron, value in neurons
        ],
    )


def _classes(counts: Mapping[str, int], href: Callable[[str], str]) -> list[Share]:
    """Those that there are, in the order of the definitions."""
    total = sum(counts.values())
    found = [(c, counts.get(str(c), 0)) for c in IO_CLASSES]
    return [_share(c, n, total, href(str(c))) for c, n in found if n]


def _share(io_class: IOClass, count: int, total: int, href: str) -> Share:
    return Share(
        name=str(io_class), colour=colour(io_class), atypical=io_class.atypical, count=count, share=count / total,
        href=href,
    )  # fmt: skip


def _facts(info: Mapping[str, Any], layers: int, neurons: int) -> list[Fact]:
    model, corpus = info.get("model") or {}, info.get("corpus") or {}
    rows = {
        "neurons": f"{neurons:,} in {layers:,} layers",
        "family": f"{model.get('family')}, {model.get('activation')}",
        "corpus": f"{wording.short(str(corpus.get('source')))}, {int(corpus.get('tokens') or 0):,} tokens"
        if corpus
        else "none: weights alone",
        "signs": str(info.get("sign_convention")),
        "fingerprint": str(info.get("fingerprint")),
    }
    return [Fact(name=name, value=wording.clipped(value, 120)) for name, value in rows.items()]


def _model(index: Index) -> str:
    return wording.clipped(wording.short(str((index.info.get("model") or {}).get("name"))), 80)
