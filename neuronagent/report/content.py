"""What a neuron's page shows, as plain JSON: the file beside each page is this, and the page shows nothing else.

`service.reporting.content` makes it. Keys that `service.views` has too mean the same here. A number that does not exist
is None, with a reason beside it or because nothing was published (`imported`).
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from neuronagent.predictability.view import PredictabilityView


class Provenance(TypedDict):
    """Where every number comes from; None where it is not known. `tokens` of the `corpus`; `published`: of imported
    numbers, who published them (kind, source, licence), None for computed ones."""

    model: str
    revision: str | None
    weights_hash: str | None
    dtype: str | None
    corpus: str | None
    tokens: int | None
    sign_convention: str
    fingerprint: str
    protocols: list[str]
    made: str | None
    version: str
    published: dict[str, Any] | None


class Baseline(TypedDict):
    """What a cosine of unrelated vectors of the layer is in 95 % of cases: between `lo` and `hi`."""

    lo: float
    hi: float


class Plane(TypedDict):
    """The neuron among its layer's, in the plane of the IO-functionality paper's Figures 2 and 5.

    `layer`: up to 1,500 neurons of the layer, evenly spaced, [cos(gate,out), cos(in,out), cos(gate,in)] each, three
    decimals; `neurons`: how many the layer has.
    """

    layer: list[tuple[float, float, float]]
    neurons: int


class Token(TypedDict):
    token: str
    cosine: float


class Projection(TypedDict):
    """Tokens nearest to a weight vector and to its negative, largest dot product first: cosines need not descend."""

    top: list[Token]
    bottom: list[Token]


class Histogram(TypedDict):
    """|post| over the corpus, position 0 left out: `counts[0]` below `edges[0]`, `counts[i]` from `edges[i-1]` on, the
    last one from the last edge on. `tau`: from which a token is strong where explanations are scored, None: no token.
    """

    edges: list[float]
    counts: list[int]
    tau: float | None


class Statistic(TypedDict):
    mean: float | None
    min: float | None
    max: float | None


class PageExample(TypedDict):
    """A marked token in its text. All texts are for human eyes but not yet escaped.

    `tokens`: the window, one string each (what is shown between them is nothing); `marked`: the place of the token in
    them. `values`: per token of the window [x_gate, x_in, act, post] or None where the model was not run there;
    `value`: post at the marked token. `before`, `after`: the rest of the text, bounded; `cut`: whether it goes on
    beyond them. `copies`: further examples of this list that are near-duplicates, not shown. `split`: of the document.
    """

    value: float
    tokens: list[str]
    marked: int
    values: list[tuple[float, float, float, float] | None]
    before: str
    after: str
    cut: tuple[bool, bool]
    split: str | None
    document: str | None
    text_id: int
    position: int | None
    copies: int


class ScoreRow(TypedDict):
    """One line about how good an explanation is. `name`: what is asked, in few words ("vs random"); `metric` its kind
    ("AUROC"). `note` says what must be said beside it (a reason where `value` is None; "n failed")."""

    name: str
    metric: str
    value: float | None
    lo: float | None
    hi: float | None
    n_pos: int
    n_neg: int
    chance: float | None
    note: str


class ControlRow(TypedDict):
    """The same score of what should not explain the neuron, and the lift of the explanation over it."""

    name: str
    value: float | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None


class OtherExplanation(TypedDict):
    """A further explanation of a combination; fields as in `PageExplanation`."""

    text: str
    by: str
    verdict: str
    unsealed: bool


class PageExplanation(TypedDict):
    """`label`: the text in a few words, as the card has it. `by`: who wrote it ("rule", "llm Qwen3-8B", "human Ada").
    `verdict`: `explain.verdict.Verdict` or why there is none. `others`: further explanations of this combination.
    `unsealed`: its writer may have seen test items. `judged_also`: a sentence for each judge asked beside the one whose
    scores are shown, with its verdict."""

    text: str
    label: str
    by: str
    judge: str | None
    judge_fit: bool | None
    verdict: str
    scores: list[ScoreRow]
    controls: list[ControlRow]
    others: list[OtherExplanation]
    unsealed: bool
    judged_also: NotRequired[list[str]]


class PageCombination(TypedDict):
    """One sign combination. `frequency`: of all tokens; `mass_share`: of Σ|post|; `promotes`, `suppresses`: tokens, the
    write sign applied. `statistics`: by quantity (post, x_in, x_gate, act). `explanation` is None with `reason`."""

    name: str
    write_sign: int
    count: int | None
    frequency: float | None
    mass_share: float | None
    promotes: list[str]
    suppresses: list[str]
    histogram: Histogram | None
    statistics: dict[str, Statistic]
    explanation: PageExplanation | None
    reason: str | None
    examples: list[PageExample]
    no_examples: str | None


class NeighbourRow(TypedDict):
    neuron: str
    cosine: float


class NeuronContent(TypedDict):
    """The whole page. `imported`: the numbers were published by others, so that geometry, vocabulary and neighbours
    are None. `told_apart`: `views.cross_view`. `values`: whether, and for how many of the examples, the values of every
    token are there, and if not, the command that gets them. `first_values`: [x_gate, x_in, act, post] at position 0.
    `predictability` is None with `no_predictability` saying why.
    """

    schema_version: int
    kind: str
    neuron: str
    imported: bool
    io_class: str | None
    role: str | None
    role_facts: dict[str, Any] | None
    meaning: str | None
    summary: list[str]
    geometry: dict[str, float] | None
    baselines: dict[str, Baseline] | None
    plane: Plane | None
    vocabulary: dict[str, Projection] | None
    vocabulary_embedding: dict[str, Projection] | None
    neighbours: dict[str, list[NeighbourRow]] | None
    no_neighbours: str | None
    predictability: PredictabilityView | None
    no_predictability: str | None
    tokens: int | None
    zeros: int | None
    first_values: tuple[float, float, float, float] | None
    combinations: list[PageCombination]
    told_apart: dict[str, Any]
    hypotheses: dict[str, int]
    examples_of: str
    values: dict[str, Any]
    provenance: Provenance
