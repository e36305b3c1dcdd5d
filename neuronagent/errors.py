"""Everything that can go wrong, with the exit code that the command line returns for it.

    NeuronagentError          1    unexpected
    ├── UsageError            2    an option or a name that cannot be understood
    ├── NotFoundError         3    a neuron, layer, index or file that is not there
    ├── IndexMismatchError    4    an index of another model, corpus or schema than the one asked for
    │   ├── NotAnIndexError        a file that is no neuronagent index
    │   └── SchemaError            an index of an older or newer schema
    ├── LLMError              5    a language model's server failed
    ├── BudgetError           6    a budget was reached
    ├── InputError            7    a corpus or a model that cannot be used
    │   ├── CorpusError
    │   └── ModelError
    │       └── UnsupportedArchitectureError
    ├── StorageError          8    a disk or database that is full, locked or read-only
    └── Interrupted         130    stopped by the user; work so far is kept

Each error is one line that says what was wrong and what is allowed (`message`), and what to do next (`remedy`).
"""

from __future__ import annotations


class NeuronagentError(Exception):
    """Base of all errors that are meant for a user; `str()` is the whole line."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = " ".join(message.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.message}; {self.remedy}" if self.remedy else self.message)


class UsageError(NeuronagentError):
    """An option or a name that cannot be understood."""

    exit_code = 2


class NotFoundError(NeuronagentError):
    """A neuron, layer, index or file that is not there."""

    exit_code = 3


class IndexMismatchError(NeuronagentError):
    """An index that belongs to something else than what was asked for."""

    exit_code = 4


class NotAnIndexError(IndexMismatchError):
    """A file or database that neuronagent did not write."""


class SchemaError(IndexMismatchError):
    """An index whose schema is older or newer than this version reads."""


class LLMError(NeuronagentError):
    """A language model's server failed or answered nonsense."""

    exit_code = 5


class BudgetError(NeuronagentError):
    """A budget in tokens or money was reached."""

    exit_code = 6


class InputError(NeuronagentError):
    """A corpus or a model that cannot be used."""

    exit_code = 7


class CorpusError(InputError):
    """A text source that is missing, empty or not text."""


class ModelError(InputError):
    """A model that cannot be loaded, or whose activations are not finite."""


class UnsupportedArchitectureError(ModelError):
    """A model whose MLP is not understood; the message names the attribute."""


class StorageError(NeuronagentError):
    """A disk or database that is full, locked or read-only."""

    exit_code = 8


class Interrupted(NeuronagentError):
    """Stopped by the user; what was done so far is kept."""

    exit_code = 130
