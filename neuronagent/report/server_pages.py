"""The pages of a running server beside those of neurons: search, layers, the model reading a text, and what went wrong.

All work without a script; the one there is moves between tokens with the arrow keys, as on a neuron's page. Forms may
be sent to the page's own server and to no other, which its policy says.
"""

from __future__ import annotations

from markupsafe import Markup

from neuronagent.report import example
from neuronagent.report.environment import asset, policy, render
from neuronagent.report.server_content import LayerContent, LayersContent, LiveContent, SearchContent
from neuronagent.wording import PAIRS


def search_page(content: SearchContent) -> str:
    """What the index is of, a form, and the neurons that it found."""
    return render(
        "server_search.html", policy=policy(connect=True), frame=content["frame"], here="search", c=content, pairs=PAIRS
    )


def layers_page(content: LayersContent) -> str:
    """All layers with their classes."""
    return render("server_layers.html", policy=policy(connect=True), frame=content["frame"], here="layers", c=content)


def layer_page(content: LayerContent) -> str:
    """One layer at a glance."""
    return render("server_layer.html", policy=policy(connect=True), frame=content["frame"], here="layers", c=content)


def live_page(content: LiveContent) -> str:
    """A form for a text, and what neurons do on it."""
    found = content["found"]
    texts = [token["text"] for token in found["tokens"]] if found else []
    runs = [_along(texts, own["values"], own["scale"]) for own in found["followed"]] if found else []
    script = asset("neuron.js")
    return render(
        "server_live.html",
        policy=policy([script], connect=True),
        frame=content["frame"],
        here="live",
        c=content,
        runs=runs,
    )


def error_page(title: str, message: str) -> str:
    """What went wrong, in one line, and the way back."""
    return render("server_error.html", policy=policy(connect=True), frame=None, here="", heading=title, message=message)


def _along(tokens: list[str], values: list[tuple[float, float, float, float]], largest: float) -> Markup:
    """The tokens of a text with their values; the strongest is where Tab stops."""
    runs = [example.run(token, own, largest) for token, own in zip(tokens, values, strict=True)]
    strongest = max(range(len(runs)), key=lambda place: abs(values[place][3]))
    runs[strongest] = runs[strongest].replace("<i ", "<i tabindex=0 ", 1)
    return Markup("").join(map(Markup, runs))
