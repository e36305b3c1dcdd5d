"""`neuronagent predict`: maps between layers, and how predictable the neurons are (the NPL paper)."""

from __future__ import annotations

import typer

from neuronagent.cli import predict_fit, predict_functional, predict_report, predict_scores, predict_substitute

NAME = "predict"
app = typer.Typer(
    help="Foretell neurons from other layers: fit maps, score every neuron, and see what the model loses.",
    no_args_is_help=True,
)

_COMMANDS = (predict_fit, predict_scores, predict_substitute, predict_functional, predict_report)
for each in _COMMANDS:
    app.command(each.NAME)(each.command)
