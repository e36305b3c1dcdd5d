"""What each figure of a model's map says, in words with its key numbers: beside it for everyone, and as its name for
who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

from neuronagent import wording
from neuronagent.domain import IO_CLASS_NAMES
from neuronagent.report.model_content import COSINES, Correlation, LayerRow, MedianLine, ModelContent, RoleCell
from neuronagent.wording import signed

TITLES: Mapping[str, str] = {
    "classes": "Input-output classes by layer",
    "cosines": "The three cosines by layer",
    "scatter": "Neurons of single layers",
    "medians": "Median cos(in,out), beside published models",
    "frequency": "How often gates are open, against cos(in,out)",
    "roles": "Functional roles and IO classes",
}
HOW: Mapping[str, str] = {
    "classes": "A bar is a layer, a colour a class; neurons whose cos(gate,in) is not what is typical of their class "
    "are hatched. Enrichment: the neuron writes along what it detects, with gate and in alike; depletion: against it; "
    "conditional: only in and out are aligned; proportional change: only gate and out are.",
    "cosines": "The box holds the middle half of a layer’s neurons, the line the middle 95 %, dots are the extremes. "
    "The grey band holds 95 % of mismatched pairs of vectors of the layer; of unrelated ones, 5 % would be beyond it. "
    "Of cos(gate,in) and cos(gate,out) it is the absolute value, since their sign is a convention.",
    "scatter": "A dot is a neuron. Tints are the regions of the classes, dashes their edges; neurons with gate and in "
    "at right angles lie within the circle. Those with the largest |cos(gate,in)| are drawn on top.",
    "medians": "Layers by their place in the depth of the model. Above 0 most neurons of a layer write along what in "
    "detects, below 0 against it. Models of a family share a colour.",
    "frequency": "Left, all neurons: the stronger the colour, the more of them (logarithmic); the line joins the "
    "median frequencies of twenty equal groups. Right, Pearson’s r in each layer with its 95 % interval, which takes "
    "neurons for independent. The r of all neurons mixes differences between layers with those within them. Frequency "
    "is of all tokens, position 0 among them.",
    "roles": "Each cell: neurons, and how many would be expected if role and class were independent. Colour: how "
    "surprising the difference is, by Fisher’s exact test (mid-p) as standard deviations (SD) of a normal variable; "
    "blue is fewer than expected, orange more.",
}


def says(content: ModelContent, name: str) -> str:
    """A sentence or two about the figure `name`, which can be drawn."""
    return _SAYS[name](content)


def manipulators(row: LayerRow) -> float:
    """Share of a layer's neurons that are of any class but orthogonal output."""
    return 1 - row["classes"]["orthogonal output"] / max(1, row["neurons"])


def totals(content: ModelContent) -> dict[str, tuple[int, int]]:
    """Neurons of each class in all layers: typical and atypical."""
    found: dict[str, tuple[int, int]] = {}
    for name in IO_CLASS_NAMES:
        pair = [sum(row["classes"].get(label, 0) for row in content["layers"]) for label in (name, f"atypical {name}")]
        found[name] = (pair[0], pair[1])
    return found


def _classes(content: ModelContent) -> str:
    neurons = max(1, content["neurons"])
    found = totals(content)
    shares = [f"{name} {wording.percent(sum(own) / neurons)}" for name, own in found.items() if sum(own)]
    atypical = sum(own[1] for own in found.values())
    most, least = (pick(content["layers"], key=manipulators) for pick in (max, min))
    said = f"Of {neurons:,} neurons: {_listed(shares)}; {wording.percent(atypical / neurons)} are atypical."
    if len(content["layers"]) > 1 and manipulators(most) > manipulators(least):
        said += (
            f" Input manipulators, any class but orthogonal output, are most frequent in layer {most['layer']} "
            f"({wording.percent(manipulators(most))}) and least in layer {least['layer']} "
            f"({wording.percent(manipulators(least))})."
        )
    return said


def _cosines(content: ModelContent) -> str:
    parts: list[str] = []
    for name, label in COSINES.items():
        boxes = [(row["layer"], box) for row in content["layers"] if (box := row["cosines"][name])]
        if not boxes:
            parts.append(f"{label} has no numbers")
            continue
        low, high = (pick(boxes, key=lambda found: found[1]["median"]) for pick in (min, max))
        neurons = sum(box["n"] for _, box in boxes)
        beyond = sum(box["n"] * box["beyond"] for _, box in boxes) / neurons
        ends = (f"{cosine(name, box['median'], 2)} (layer {number})" for number, box in (low, high))
        between = f"from {' to '.join(ends)}"
        parts.append(f"{label} {between}, {wording.percent(beyond)} of neurons beyond chance")
    return f"Medians of layers: {'; '.join(parts)}."


def _scatter(content: ModelContent) -> str:
    rows = {row["layer"]: row for row in content["layers"]}
    shown = [rows[layer] for layer in content["clouds"] if layer in rows]
    shares = [f"{wording.percent(manipulators(row))} in layer {row['layer']}" for row in shown]
    return f"cos(gate,out) across, cos(in,out) up, cos(gate,in) as colour. Input manipulators: {_listed(shares)}."


def _medians(content: ModelContent) -> str:
    own = content["medians"]["lines"][0]
    found = [(layer, value) for layer, value in zip(own["layers"], own["medians"], strict=True) if value is not None]
    if not found:
        return "This model has no median cos(in,out)."
    low, high = (pick(found, key=lambda pair: pair[1]) for pick in (min, max))
    first, last = found[0], found[-1]
    others = len(content["medians"]["lines"]) - 1
    return (
        f"Of this model it is {signed(first[1])} in layer {first[0]}, {signed(last[1])} in layer {last[0]}, highest "
        f"in layer {high[0]} ({signed(high[1])}), lowest in layer {low[0]} ({signed(low[1])}). Published of "
        f"{others} models ({content['medians']['source']}).{_processing(content['medians']['lines'])}"
    )


def _processing(lines: Sequence[MedianLine]) -> str:
    """Which published medians are of weights that were processed otherwise; this model's line is the first."""
    own = lines[0]["post_norm"]
    other = [line for line in lines[1:] if line["post_norm"] not in (None, own)]
    if not other:
        return ""
    names = _listed([line["model"].rpartition("/")[2] for line in other])
    here = f", this index is made with post-norm {own}" if own else ""
    return (
        f" Those of {names} hold for post-norm {other[0]['post_norm']}{here}: of a model with a norm after the MLP the "
        "two differ."
    )


def _frequency(content: ModelContent) -> str:
    found = content["frequency"]
    pooled = found["pooled"]
    said = f"Over all neurons r = {correlation(pooled)}." if pooled and pooled["r"] is not None else ""
    if pooled and pooled["r"] is None:
        said = f"Over all neurons there is no correlation: {pooled['reason']}."
    known = [one for one in found["layers"] if one["r"] is not None]
    if len(known) > 1:
        low, high = (pick(known, key=lambda one: one["r"] or 0) for pick in (min, max))
        said += (
            f" By layer from {correlation(low)} in layer {low['layer']} to {correlation(high)} in layer "
            f"{high['layer']}; {sum((one['hi'] or 0) < 0 for one in known)} of {len(known)} intervals are below 0, "
            f"{sum((one['lo'] or 0) > 0 for one in known)} above."
        )
    return said.strip()


def _roles(content: ModelContent) -> str:
    found = content["roles"]
    with_role = {name: n for name, n in found["roles"].items() if name != "none"}
    total = sum(found["roles"].values())
    cells = [
        (io_class, role, cell, cell["z"])
        for io_class, row in found["cells"].items()
        for role, cell in row.items()
        if role != "none" and cell["z"] is not None
    ]
    shares = [f"{n:,} {name}" for name, n in with_role.items()]
    said = f"Roles among {total:,} neurons: {_listed(shares) if shares else 'none'}."
    surprising = NormalDist().inv_cdf(1 - _LEVEL / 2 / max(1, len(cells)))  # Bonferroni: some of many cells always are
    more = sorted((found for found in cells if found[3] >= surprising), key=lambda found: -found[3])[:3]
    less = sorted((found for found in cells if found[3] <= -surprising), key=lambda found: found[3])[:2]
    if more:
        said += f" More than expected: {_listed([_cell(*own[:3]) for own in more])}."
    if less:
        said += f" Fewer: {_listed([_cell(*own[:3]) for own in less])}."
    return f"{said} Named at p < {_LEVEL:g}, corrected for {len(cells)} cells." if more or less else said


_LEVEL, _NARROW = 0.05, 0.04


def _cell(io_class: str, role: str, cell: RoleCell) -> str:
    return f"{role} × {io_class} ({cell['count']:,}, expected {expected(cell)})"


def expected(cell: RoleCell) -> str:
    """A number of neurons that need not be whole."""
    value = cell["expected"]
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def cosine(name: str, value: float, decimals: int) -> str:
    """A number of the cosine `name`, which has a sign only if its sign is shown."""
    return f"{value:.{decimals}f}" if COSINES[name].startswith("|") else signed(value, decimals)


def correlation(one: Correlation) -> str:
    """`−0.57 [−0.63, −0.51]`, with a decimal more where the interval is narrow; nothing where there is no r."""
    r, lo, hi = one["r"], one["lo"], one["hi"]
    if r is None or lo is None or hi is None:
        return "–"
    decimals = 2 if hi - lo >= _NARROW else 3
    return f"{signed(r, decimals)} [{signed(lo, decimals)}, {signed(hi, decimals)}]"


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts)


_SAYS = {
    "classes": _classes,
    "cosines": _cosines,
    "scatter": _scatter,
    "medians": _medians,
    "frequency": _frequency,
    "roles": _roles,
}
