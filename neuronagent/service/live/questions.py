"""The questions that a loaded model is asked, by name, for whoever asks from another process.

A question is a function of a `LiveModel` and plain arguments that returns a dataclass which can be pickled. Its module
imports torch in functions alone, so that a process without a model can read the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from neuronagent.service.live.model import LiveModel

QUESTIONS: Mapping[str, str] = {
    "activate": "neuronagent.service.live.activate:activate",
    "top_neurons": "neuronagent.service.live.activate:top_neurons",
    "look": "neuronagent.service.live.look:look",
    "attribute": "neuronagent.service.live.attribute:attribute",
    "ablate": "neuronagent.service.live.ablate:ablate",
    "steer": "neuronagent.service.live.steer:steer",
    "strengths": "neuronagent.service.live.strengths:strengths",
    "output_change": "neuronagent.service.live.output_change:output_change",
    "search_concept": "neuronagent.service.live.concept:search_concept",
}
"""Where each of them is."""


def question(name: str) -> Callable[..., Any]:
    """The function called `name`.

    Raises:
        KeyError: there is none.
    """
    module, _, function = QUESTIONS[name].partition(":")
    return getattr(import_module(module), function)


class Asks(Protocol):
    """Whoever a loaded model's answers can be had from."""

    def call(self, name: str, **arguments: Any) -> Any:
        """The answer to the question `name`."""
        ...


class InProcess:
    """A model in this process, for a program that answers nobody else meanwhile; servers have a `LiveWorker`."""

    def __init__(self, live: LiveModel) -> None:
        self._live = live

    def call(self, name: str, **arguments: Any) -> Any:
        """The answer to the question `name`; errors as the question's own, or KeyError if there is none."""
        return question(name)(self._live, **arguments)
