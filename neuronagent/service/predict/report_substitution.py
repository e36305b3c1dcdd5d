"""What `predict substitute` stored, for a report: of the main fit, or of the first that it was measured with."""

from __future__ import annotations

from collections.abc import Sequence

from neuronagent.predictability.scores import StoredFit
from neuronagent.report.predictability_content import Halves, Substitution
from neuronagent.service.lookup import Index
from neuronagent.service.predict.substitution_views import halves_view, substitution_views


def substitution(index: Index, fits: Sequence[StoredFit], main: StoredFit) -> Substitution:
    """Each text under the settings that were used last; a text of which no cell was measured is left out."""
    for fit in (main, *fits):
        views = [view for view in substitution_views(index, fit) if view["cells"]]
        if views:
            return {"fit": fit.name, "views": views, "reason": None}
    return {"fit": "", "views": [], "reason": "substitution has not been measured"}


def halves(index: Index, fits: Sequence[StoredFit], main: StoredFit) -> Halves:
    """Those that were measured last."""
    for fit in (main, *fits):
        view = halves_view(index, fit)
        if view is not None:
            return {"fit": fit.name, "view": view, "reason": None}
    return {"fit": "", "view": None, "reason": "halves of the neurons have not been substituted"}
