"""All figures of a report on predictability by name, and what each cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neuronagent.report.figures import (
    predict_classes,
    predict_functional,
    predict_layers,
    predict_matrix,
    predict_scatter,
    predict_substitution,
    predict_training,
    predict_windows,
)
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.predictability_content import PredictabilityContent
from neuronagent.report.predictability_words import missing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Draw = Callable[[PredictabilityContent, PredictionPoints, Looks, str | None], "Figure"]

DRAW: Mapping[str, _Draw] = {
    "pairs": predict_matrix.draw_pairs,
    "layers": predict_layers.draw,
    "token": predict_scatter.draw_token,
    "scale": predict_scatter.draw_scale,
    "curves": predict_training.draw_curves,
    "optimisers": predict_training.draw_optimisers,
    "substitution": predict_substitution.draw_table,
    "halves": predict_substitution.draw_halves,
    "functional": predict_functional.draw_families,
    "background": predict_functional.draw_background,
    "classes": predict_classes.draw,
    "windows": predict_windows.draw,
    "models": predict_matrix.draw_models,
}
"""In the order in which a page shows them."""


def drawable(content: PredictabilityContent, name: str) -> bool:
    """Whether the part `name` has a figure, and enough to draw it from."""
    if name not in DRAW or missing(content, name) is not None:
        return False
    if name in ("pairs", "models"):
        return bool(predict_matrix.shown(content[name]["matrices"]))
    if name == "token":
        return any(row["lift"] is not None for row in content["layers"]["rows"])
    return True
