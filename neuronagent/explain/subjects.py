"""What is scored: something that says of windows whether they fit. A rule does so itself, a text through a judge.

A scorer gets subjects and windows and returns scores; it does not know whether a language model was asked. Numbers are
higher where a window fits better; NaN where there is no answer (a call that failed), which scorers leave out and count.

To ask a judge, a score is computed twice: first over `Asking` subjects, which only note what would be asked, so that
the cost is known before anything is sent; then over the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import View
from neuronagent.explain.background import positions_of
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import TokenShapes
from neuronagent.explain.judging import Answer, Question, Status, Task
from neuronagent.explain.rules import RuleExplanation
from neuronagent.hashing import uniform_bits

Array = NDArray[np.float64]


class Subject(Protocol):
    """Something that can be scored."""

    def detect(self, windows: Sequence[Window], view: View) -> Array:
        """How well each window fits, `[windows]`: at its marked token (causal), or at any token that is shown (full).
        Above ½ is a yes."""
        ...

    def fuzz(self, windows: Sequence[Window]) -> Array:
        """How well the marked token of each window fits, `[windows]`, seen in the full view."""
        ...

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        """A grade for each token that the causal view shows, an array per window."""
        ...


class RuleSubject:
    """A rule, which predicts from the tokens themselves."""

    def __init__(self, rule: RuleExplanation, shapes: TokenShapes) -> None:
        self._rule, self._shapes = rule, shapes

    def detect(self, windows: Sequence[Window], view: View) -> Array:
        if view is View.CAUSAL:
            return self._rule.predict(positions_of(windows, self._shapes))
        return np.array([grades.max() for grades in self._tokens(windows, View.FULL)], dtype=np.float64)

    def fuzz(self, windows: Sequence[Window]) -> Array:
        return self._rule.predict(positions_of(windows, self._shapes))

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        return self._tokens(windows, View.CAUSAL)

    def _tokens(self, windows: Sequence[Window], view: View) -> list[Array]:
        spans = [window.span(view) for window in windows]
        shown = [
            Window(text=w.text, position=p, combination=w.combination, post=w.post)
            for w, (start, end) in zip(windows, spans, strict=True)
            for p in range(start, end)
        ]
        if not shown:
            return []
        scores = self._rule.predict(positions_of(shown, self._shapes))
        return np.split(scores, np.cumsum([end - start for start, end in spans])[:-1])


class TokenListSubject:
    """The token list of a rule alone, a control: log-odds of the marked token."""

    def __init__(self, rule: RuleExplanation, shapes: TokenShapes) -> None:
        self._rule, self._shapes = rule, shapes

    def detect(self, windows: Sequence[Window], view: View) -> Array:
        if view is View.CAUSAL:
            return self.fuzz(windows)
        return np.array([grades.max() for grades in self._tokens(windows, View.FULL)], dtype=np.float64)

    def fuzz(self, windows: Sequence[Window]) -> Array:
        return self._rule.predict_tokens(positions_of(windows, self._shapes))

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        return self._tokens(windows, View.CAUSAL)

    def _tokens(self, windows: Sequence[Window], view: View) -> list[Array]:
        weight = {trigger.token_id: trigger.log_odds for trigger in self._rule.triggers}
        return [
            np.array([weight.get(t, 0.0) for t in w.text.token_ids[slice(*w.span(view))]], dtype=np.float64)
            for w in windows
        ]


class EmptySubject:
    """The control that says nothing: the same for everything."""

    def detect(self, windows: Sequence[Window], view: View) -> Array:
        return np.full(len(windows), 0.5)

    def fuzz(self, windows: Sequence[Window]) -> Array:
        return np.full(len(windows), 0.5)

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        return [np.full(w.span(View.CAUSAL)[1] - w.span(View.CAUSAL)[0], 0.5) for w in windows]


class Answers:
    """What a judge said, by question. While `asking`, questions are noted and have no answer yet."""

    def __init__(self) -> None:
        self.asked: dict[Question, None] = {}
        self._answers: dict[Question, Answer] = {}

    def add(self, answers: Mapping[Question, Answer]) -> None:
        self._answers.update(answers)

    @property
    def unanswered(self) -> list[Question]:
        """What was asked and has no answer, each once, in order."""
        return [question for question in self.asked if question not in self._answers]

    def __call__(self, question: Question, size: int) -> Array:
        """The values of the answer `[size]`, NaN without one."""
        self.asked.setdefault(question)
        answer = self._answers.get(question)
        if answer is None or answer.status is not Status.OK or len(answer.values) != size:
            return np.full(size, np.nan)
        return np.array(answer.values, dtype=np.float64)

    def statuses(self) -> dict[Status, int]:
        """How many answers ended in each way."""
        found: dict[Status, int] = {}
        for answer in self._answers.values():
            found[answer.status] = found.get(answer.status, 0) + 1
        return found


class TextSubject:
    """An explanation in words, as a judge reads it."""

    def __init__(self, text: str, shapes: TokenShapes, answers: Answers) -> None:
        self.text, self._shapes, self._answers = text, shapes, answers

    def detect(self, windows: Sequence[Window], view: View) -> Array:
        return self._ask(Task.DETECTION, windows, view, marked=view is View.CAUSAL)

    def fuzz(self, windows: Sequence[Window]) -> Array:
        return self._ask(Task.FUZZING, windows, View.FULL, marked=True)

    def simulate(self, windows: Sequence[Window]) -> list[Array]:
        questions = [
            question(Task.SIMULATION, (self.text,), w, View.CAUSAL, self._shapes, marked=False) for w in windows
        ]
        return [self._answers(q, len(q.tokens)) for q in questions]

    def _ask(self, task: Task, windows: Sequence[Window], view: View, *, marked: bool) -> Array:
        asked = [question(task, (self.text,), w, view, self._shapes, marked=marked) for w in windows]
        return np.array([self._answers(q, 1)[0] for q in asked], dtype=np.float64)


def which_of(texts: Sequence[str], windows: Sequence[Window], shapes: TokenShapes, answers: Answers) -> Array:
    """How well each of k texts fits each window when all are shown together, in an order that a hash of the window
    gives: `[windows, k]`."""
    rows = np.empty((len(windows), len(texts)))
    for row, window in enumerate(windows):
        ranks = uniform_bits("order of texts", window.number * len(texts) + np.arange(len(texts), dtype=np.int64))
        order = np.argsort(ranks, kind="stable")
        shown = tuple(str(texts[int(i)]) for i in order)
        asked = question(Task.WHICH, shown, window, View.CAUSAL, shapes, marked=True)
        rows[row, order] = answers(asked, len(texts))
    return rows


def question(
    task: Task, texts: tuple[str, ...], window: Window, view: View, shapes: TokenShapes, *, marked: bool
) -> Question:
    """A question about what `view` shows of a window."""
    start, end = window.span(view)
    tokens = tuple(shapes.text[t] for t in window.text.token_ids[start:end])
    return Question(task=task, texts=texts, tokens=tokens, marked=window.position - start if marked else None)
