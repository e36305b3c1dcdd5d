"""Elements of drawings. What is written into one is escaped; colours come from the page, as CSS variables.

A drawing is an inline `<svg role="img">` that says in `<title>` and `<desc>` what it shows. It has no identifiers, so
that any number of drawings stand on one page, and no size of its own: it is as wide as it is let.
"""

from __future__ import annotations

from markupsafe import Markup, escape


def element(name: str, *inner: str, **attributes: str | float | None) -> Markup:
    """`<name …>inner</name>`; attributes that are None are left out. In their names `_` stands for `-`, and at the end
    for nothing."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value) if isinstance(value, str) else plain(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{''.join(map(escape, inner))}</{name}>")


def drawing(title: str, description: str, width: float, height: float, *inner: str, class_: str) -> Markup:
    """The whole drawing; `width` and `height` are those of its own units."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *inner,
        class_=class_,
        role="img",
        viewBox=f"0 0 {plain(width)} {plain(height)}",
        width=width,
        height=height,
        style="max-width:100%;height:auto",
        font_size=11,
        fill="currentColor",
    )


def group(*inner: str, **attributes: str | float | None) -> Markup:
    return element("g", *inner, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float | None) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def box(x: float, y: float, width: float, height: float, *inner: str, **attributes: str | float | None) -> Markup:
    return element("rect", *inner, x=x, y=y, width=width, height=height, **attributes)


def words(x: float, y: float, text: str, **attributes: str | float | None) -> Markup:
    return element("text", text, x=x, y=y, **attributes)


def over(x: float, y: float, text: str, **attributes: str | float | None) -> Markup:
    """Words with a rim in the colour of the paper, legible on top of other marks."""
    return words(
        x, y, text, stroke="var(--paper)", stroke_width=3, paint_order="stroke", stroke_linejoin="round", **attributes
    )


def plain(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{round(value, 2) + 0.0:.7g}"
