"""The colours of figures: the same in every picture, on paper and on a page.

Those of IO classes are Okabe and Ito's, which colour-blind readers can tell apart. What does not follow the scheme of a
page (light or dark) is of middle luminance: 3 : 1 or more on either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neuronagent.domain import IO_CLASS_NAMES


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Colours by what they are for; `classes` by the name of an IO class. `plus` and `minus`: above and below what is
    expected, always with an alpha of `TINT` at most, so that text on them stays readable."""

    ink: str
    soft: str
    line: str
    paper: str
    plus: str
    minus: str
    classes: Mapping[str, str]


CLASS_COLOURS: Mapping[str, str] = {
    "enrichment": "#d55e00",
    "conditional enrichment": "#e69f00",
    "proportional change": "#009e73",
    "orthogonal output": "#888888",
    "conditional depletion": "#56b4e9",
    "depletion": "#0072b2",
}
CLASS_MARKERS: Mapping[str, str] = dict(zip(IO_CLASS_NAMES, "^oDsov", strict=True))

PRINTED = Looks(
    ink="#17191c",
    soft="#545b64",
    line="#d5dae0",
    paper="#ffffff",
    plus="#f08a24",
    minus="#4a90e2",
    classes=CLASS_COLOURS,
)
"""For files: those of a page in its light scheme, on white."""

_STAND_INS = {
    "ink": "#010203",
    "soft": "#010204",
    "line": "#010205",
    "paper": "#010206",
    "plus": "#010207",
    "minus": "#010208",
}
_CLASS_STAND_INS = {name: f"#0103{place:02x}" for place, name in enumerate(IO_CLASS_NAMES)}

PAGE = Looks(**_STAND_INS, classes=_CLASS_STAND_INS)
"""For figures within a page: stand-ins, which `inline.svg` replaces by the page's own variables."""

VARIABLES: Mapping[str, str] = {code: f"var(--{name})" for name, code in _STAND_INS.items()} | {
    code: f"var(--{name.replace(' ', '-')})" for name, code in _CLASS_STAND_INS.items()
}
"""The variable of `base.css` that each stand-in is for."""

TINT = 0.7
"""Text in --ink on --plus or --minus of this alpha over --paper has a contrast of 4.5 or more in both schemes."""

FAMILIES = ("#c65a00", "#3d8fd1", "#00906a", "#b5609a", "#7f868f", "#a07d00")
"""Families of published models, in the order in which they are first named."""

DENSITY = "#3d8fd1"
"""Many neurons in few pixels: from see-through to this."""
