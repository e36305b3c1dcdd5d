"""The model map's figures, drawn by matplotlib (the extra `plot`) from what `service.reporting.model_map` counted.

Each module has `draw(content, points, looks)`; none imports matplotlib until it draws. `drawing` has them all by name.
"""

FIGURES = ("classes", "cosines", "scatter", "medians", "frequency", "roles")
"""In the order in which a page shows them. Here, since the command line wants no more than their names."""

PREDICT_FIGURES = (
    "pairs", "layers", "token", "scale", "curves", "optimisers", "substitution", "halves", "functional", "background",
    "classes", "windows", "models",
)  # fmt: skip
"""The same of a report on neuron predictability, which `predict_drawing` has by name."""
