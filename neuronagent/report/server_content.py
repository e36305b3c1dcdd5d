"""What the pages of a running server show beside neurons: search, layers, a text that the model is run on.

`service.reporting.browse` and `browse_live` make it. A number that does not exist is None. Texts are not yet escaped.
"""

from __future__ import annotations

from typing import TypedDict


class Frame(TypedDict):
    """What stands on every page. `live` None: the model may be run; else why not."""

    model: str
    provenance: str
    live: str | None


class Share(TypedDict):
    """So many neurons are of this kind. `colour`: of the IO class, its name in `base.css`; `href` finds them."""

    name: str
    colour: str
    atypical: bool
    count: int
    share: float
    href: str


class Choice(TypedDict):
    value: str
    label: str
    chosen: bool


class Said(TypedDict):
    """The explanation of the combination with the largest share of the output among those that have one; `more`:
    further combinations that are explained. `verdict`, `auroc`, `unsealed`: as in the overview of a report
    (`SiteUnit`)."""

    combination: str
    text: str
    verdict: str | None
    unsealed: bool
    auroc: float | None
    lo: float | None
    hi: float | None
    more: int


class Writes(TypedDict):
    """The tokens that a neuron promotes most in the combination with the largest share of its output."""

    combination: str
    tokens: list[str]


class Hit(TypedDict):
    """A neuron in a list. `frequency`, `mass_share`: by sign combination, in their order."""

    neuron: str
    href: str
    layer: int
    io_class: str
    colour: str
    atypical: bool
    role: str | None
    cos_gate_in: float | None
    cos_gate_out: float | None
    cos_in_out: float | None
    frequency: list[float | None]
    mass_share: list[float | None]
    match: float | None
    sorted_by: float | None
    said: Said | None
    writes: Writes | None


class Column(TypedDict):
    """A column that the list can be sorted by: `href` does it; `sorted` is "ascending", "descending" or "none"."""

    name: str
    href: str
    sorted: str


class Listed(TypedDict):
    """Neurons from `first` (counted from 1) to `last`, of `total`. `sorted_by`: what the number is that the list was
    sorted by, where no other column has it. `columns`: by key. `note` says what must be said."""

    total: int
    first: int
    last: int
    hits: list[Hit]
    columns: dict[str, Column]
    sorted_by: str | None
    matched: bool
    previous: str | None
    next: str | None
    note: str | None


class SearchForm(TypedDict):
    """The form as it was sent; `narrowed`: it asks for something."""

    q: str
    layer: str
    places: list[Choice]
    classes: list[Choice]
    roles: list[Choice]
    sorts: list[Choice]
    narrowed: bool


class Fact(TypedDict):
    name: str
    value: str


class SearchContent(TypedDict):
    frame: Frame
    facts: list[Fact]
    classes: list[Share]
    neurons: int
    form: SearchForm
    error: str | None
    found: Listed | None


class LayerRow(TypedDict):
    layer: int
    href: str
    neurons: int
    classes: list[Share]


class LayersContent(TypedDict):
    """All layers of the model; `classes`: of all of them, in the order of the rows' own."""

    frame: Frame
    rows: list[LayerRow]
    classes: list[Share]


class CosineBand(TypedDict):
    """A cosine over a layer, beside what it is for unrelated vectors in 95 % of cases (`lo`, `hi`)."""

    name: str
    median: float | None
    q10: float | None
    q90: float | None
    lo: float | None
    hi: float | None
    outside: float | None


class LayerCombination(TypedDict):
    """A sign combination over a layer's neurons; `main_of`: how many have most of their output in it."""

    name: str
    mean_frequency: float | None
    median_frequency: float | None
    mean_mass_share: float | None
    main_of: int


class Extreme(TypedDict):
    """`signed`: whether its value can be negative."""

    neuron: str
    href: str
    value: float | None
    signed: bool


class Extremes(TypedDict):
    """`what` in words: `cos(in,out), lowest`."""

    what: str
    neurons: list[Extreme]


class LayerContent(TypedDict):
    frame: Frame
    layer: int
    layers: int
    previous: str | None
    next: str | None
    everything: str
    neurons: int
    classes: list[Share]
    roles: list[Share]
    cosines: list[CosineBand]
    combinations: list[LayerCombination]
    extremes: list[Extremes]


class LiveToken(TypedDict):
    """A token of the text. `ranked` False: BOS at position 0, which counts nowhere."""

    text: str
    position: int
    ranked: bool
    chosen: bool


class LiveHit(TypedDict):
    """A neuron at the chosen token; `written`: |post|·‖w_out‖; `frequency`: of its combination in the corpus;
    `strong`: |post| ≥ τ, None where that is not known."""

    neuron: str
    href: str
    io_class: str
    colour: str
    atypical: bool
    combination: str | None
    x_gate: float
    x_in: float
    act: float | None
    post: float
    written: float
    frequency: float | None
    strong: bool | None
    followed: bool


class Followed(TypedDict):
    """A neuron along the text. `values`: [x_gate, x_in, act, post] by token; `scale`: the |post| that has the full
    colour; `counts`: of its tokens by combination, in their order, BOS left out; `strong`: how many are."""

    neuron: str
    href: str
    io_class: str
    colour: str
    atypical: bool
    values: list[tuple[float, float, float, float]]
    scale: float
    counts: list[int]
    frequency: list[float | None]
    tokens: int
    strong: int


class LiveFound(TypedDict):
    """What the model did on the text. `total`: neurons that were ranked."""

    tokens: list[LiveToken]
    position: int
    token: str
    total: int
    hits: list[LiveHit]
    followed: list[Followed]
    dtype: str


class LiveContent(TypedDict):
    """`text`, `follow`: as they were sent."""

    frame: Frame
    text: str
    follow: str
    combinations: list[Choice]
    layers: str
    error: str | None
    found: LiveFound | None
