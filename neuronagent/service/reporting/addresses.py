"""Where a running server's pages are, and the colours that classes have on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from neuronagent.domain import IOClass

HOME, LAYERS, LIVE = "/", "/layers", "/live"


def neuron_href(neuron: str) -> str:
    """The page of `31.9634`."""
    return f"/neuron/{neuron}"


def layer_href(layer: int) -> str:
    return f"/layer/{layer}"


def search_href(form: Mapping[str, str]) -> str:
    """The search with this form; what is empty is left out."""
    given = {name: value for name, value in form.items() if value}
    return f"{HOME}?{urlencode(given)}" if given else HOME


def colour(io_class: IOClass) -> str:
    """What the style sheet calls the colour of a class; atypical neurons have that of their class."""
    return io_class.name.replace(" ", "-")
