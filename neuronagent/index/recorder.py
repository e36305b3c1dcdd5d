"""One pass over a corpus: statistics, top lists and samples of every neuron in every sign combination.

For each layer and batch the recorder sees x_gate and x_in `[texts, tokens, neurons]` once and keeps a state whose size
depends on the model and k alone (`state.LayerState`):

1. signs: a token is in one of four combinations by the strict signs of (x_gate, x_in); exact zeros are counted apart;
2. counts, float64 sums, minima and maxima of post, x_in, x_gate, act per combination, over all tokens;
3. without position 0: Σ|post|, the histogram of |post| per split, and the lists:
   - top lists, each text at most once: the largest |post| per text (kept per split), |x_in| and |x_gate|;
   - two samples of tokens per split, uniform and in proportion to |post|, with the same u for every neuron.

Everything is recorded from x_gate and x_in in float32 with `post = act(x_gate)·x_in` computed here, in the index's
sign convention (x_in times s).

Three engines do the same to the last bit of counts, lists and samples, and to 1e-12 of float64 sums: a fused pass in
C++ on processors and in CUDA on graphics cards (`kernel/`), and plain torch operations where neither can be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from neuronagent.index import kernel
from neuronagent.index.batch import Batch
from neuronagent.index.eager import EagerEngine
from neuronagent.index.state import LayerState
from neuronagent.layout import LayerActivations

Activate = Callable[[torch.Tensor], torch.Tensor]


class Engine(Protocol):
    """Adds batches to a state."""

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        """Take in one batch `[B, T, N]`."""
        ...

    def refresh(self) -> None:
        """The state was changed by others."""
        ...

    def check(self) -> None:
        """Raises ModelError if a value so far was not finite."""
        ...


class LayerRecorder:
    """Records one layer of N neurons; `sign` `[N]` is s of the sign convention and says where the state lives."""

    def __init__(
        self,
        *,
        sign: torch.Tensor,
        k: int,
        salt: str,
        activate: Activate,
        name: str,
        engine: Callable[[LayerState, Activate, str], Engine] | None = None,
    ) -> None:
        self._state = LayerState(sign, k, salt)
        self._activate = activate
        self._begun = False
        make = engine or kernel.engine_for(sign.device) or EagerEngine
        self._engine = make(self._state, activate, name)

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        """Take in one batch of pre-activations `[B, T, N]`.

        Raises:
            ModelError: a value at a real token is not finite. On a graphics card it may be raised by a later call, at
                the latest by `state`. The recording is of no use any more.
        """
        if not self._begun:
            self._begin(x_gate[0, 0].float(), x_in[0, 0].float())
        self._engine.update(x_gate, x_in, batch)
        self._state.tokens += batch.lengths.sum()

    def _begin(self, gate: torch.Tensor, into: torch.Tensor) -> None:
        """Keep the values at the first position 0 that is seen."""
        state = self._state
        if bool(state.first_values.isnan().any()):
            into = into * state.sign
            act = self._activate(gate)
            state.first_values.copy_(torch.stack([act * into, into, gate, act], dim=1))
        self._begun = True

    def state(self) -> dict[str, torch.Tensor]:
        """All recorded so far, as CPU tensors by name: what a checkpoint holds."""
        self._engine.check()
        return self._state.tensors()

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a checkpoint's state."""
        self._state.load(state)
        self._engine.refresh()

    def merge(self, other: LayerRecorder) -> None:
        """Take in what another recorder of the same layer saw of other texts."""
        self._state.merge(other._state)
        self._engine.refresh()

    def result(self, *, constant_first: bool) -> LayerActivations:
        """What was recorded, for the store; `constant_first`: whether every text begins with the same token."""
        self._engine.check()
        return self._state.result(constant_first=constant_first)
