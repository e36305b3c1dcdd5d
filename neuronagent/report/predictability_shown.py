"""What a table of a report on predictability is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neuronagent.report.model_tables import Table
from neuronagent.report.predictability_content import PredictabilityContent

MOST = 400
"""Rows of a table; the JSON has all."""


@dataclass(frozen=True, kw_only=True)
class Shown(Table):
    """A table; `open`: it is what the part shows, and is not folded away."""

    open: bool = False


Tables = Callable[[PredictabilityContent], list[Shown]]
