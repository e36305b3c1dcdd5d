"""A figure as SVG that stands within a page: in the page's colours and type, light or dark, and in nobody's way.

matplotlib's SVG is a document of its own. Within a page its style sheet would hold for everything, its ids would clash
with those of the next figure, and its colours would stay as they are. So: the style sheet is left out and the page's
`svg.drawn` says the same; ids that are referred to get the figure's name in front, others go; stand-ins of `looks.PAGE`
become the page's variables; text stays text, in the page's type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup

from neuronagent.report.figures.looks import VARIABLES
from neuronagent.report.figures.saving import image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 170  # of dots: sharp where a CSS pixel is two of the screen's
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->", re.DOTALL)
_ID = re.compile(r'\sid="([^"]*)"')
_REFERENCE = re.compile(r'((?:xlink:)?href="#|url\(#)([^")]*)')
_STAND_IN = re.compile("|".join(VARIABLES), re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT = re.compile(r"font-family: [^;\"]*;? ?")
_VIEW_BOX = re.compile(r'viewBox="([^"]*)"')


def svg(figure: Figure, name: str) -> Markup:
    """The figure `name`, drawn with `looks.PAGE`; the page has its title and what it shows, in words, beside it.

    What matplotlib wrote is taken for markup as it is: it escapes the text of a figure.
    """
    text = image(figure, ".svg", dpi=_DPI, text=True).decode("utf-8")
    opening, _, rest = text[text.index("<svg") :].partition(">")
    view_box = _VIEW_BOX.search(opening)
    assert view_box is not None
    drawn = _own_ids(_LEFT_OUT.sub("", rest), name)
    drawn = _STAND_IN.sub(lambda found: VARIABLES[found[0].lower()], drawn)
    drawn = _FONT.sub("", drawn)
    drawn = _NUMBER.sub(lambda found: f"{float(found[0]):.3f}".rstrip("0").rstrip("."), drawn)
    drawn = re.sub(r"\n\s*", "\n", drawn).replace("xlink:href", "href")
    named = Markup('<svg class="drawn" role="img" aria-labelledby="{0}-title {0}-says" viewBox="{1}">')
    return named.format(name, view_box[1]) + Markup(drawn)


def _own_ids(text: str, name: str) -> str:
    """Only ids that something refers to, with the name in front of them."""
    wanted = {found[2] for found in _REFERENCE.finditer(text)}
    text = _ID.sub(lambda found: f' id="{name}-{found[1]}"' if found[1] in wanted else "", text)
    return _REFERENCE.sub(lambda found: f"{found[1]}{name}-{found[2]}", text)
