"""What the overview of a batch report shows, as plain JSON: a row per neuron and what all of them come to.

`service.reporting.site_rows` makes it; tables and the page are made of nothing else. A number that does not exist is
None, never 0.
"""

from __future__ import annotations

from typing import Any, TypedDict

from neuronagent.report.content import Provenance


class SiteUnit(TypedDict):
    """One neuron in one sign combination, with the explanation that its page shows first.

    `frequency`: of all tokens; `mass_share`: of Σ|post|; `promotes`: the three tokens that it promotes most there.
    `verdict` is None where nothing of the neuron was explained; else as `views.explanation_view` has it. `label`: the
    explanation in a few words, if its writer gave some. `auroc`: detection in the causal view, `test`, by the
    judge that was asked last; `against`: what it tells strong tokens from ("vs random", or "vs weak, same texts" where
    there is no corpus); `lift`: above the strongest control.
    """

    combination: str
    frequency: float | None
    mass_share: float | None
    promotes: list[str]
    verdict: str | None
    text: str | None
    label: str | None
    source: str | None
    by: str | None
    judge: str | None
    judge_fit: bool | None
    unsealed: bool | None
    against: str | None
    auroc: float | None
    auroc_lo: float | None
    auroc_hi: float | None
    n_pos: int | None
    n_neg: int | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None


class SiteRow(TypedDict):
    """One neuron. `page`: where its page is, relative to the overview; None: it has none. `units`: the four sign
    combinations, in their order. Class, role, cosines and norms are None where they were not published."""

    neuron: str
    layer: int
    index: int
    page: str | None
    io_class: str | None
    role: str | None
    cos_gate_in: float | None
    cos_gate_out: float | None
    cos_in_out: float | None
    norm_gate: float | None
    norm_in: float | None
    norm_out: float | None
    explained: bool
    units: list[SiteUnit]


class ClassCount(TypedDict):
    """How many of the neurons have this class and role (None: none, or not known)."""

    io_class: str | None
    role: str | None
    neurons: int


class SiteSummary(TypedDict):
    """What the rows come to. `neurons` = `explained` + `unexplained`; a unit is an explained neuron in one combination,
    so that the `verdicts` add up to 4 × `explained`; `scored` of them have an explanation with detection scores.
    `lift`, `benjamini_hochberg`, `not_told_apart` and `protocols` are as `BatchReport.to_dict` has them, over the
    explanations that the rows show. `sources`: of the explanations shown, by who wrote them; `judges`: by who scored.
    """

    neurons: int
    explained: int
    unexplained: int
    units: int
    explanations: int
    scored: int
    verdicts: dict[str, int]
    lift: dict[str, Any] | None
    benjamini_hochberg: dict[str, Any]
    not_told_apart: list[dict[str, Any]]
    protocols: dict[str, int]
    sources: dict[str, int]
    judges: dict[str, int]
    classes: list[ClassCount]


class SiteContent(TypedDict):
    """The whole overview. `selection`: in words, how the neurons were chosen; `files`: label → where it is, of the
    tables beside the page; `model_page`: where the model's map is, if there is one."""

    schema_version: int
    kind: str
    title: str
    selection: str | None
    imported: bool
    rows: list[SiteRow]
    summary: SiteSummary
    files: dict[str, str]
    model_page: str | None
    provenance: Provenance
