"""Texts that a client's own language model writes about a neuron: checked, measured and stored in one go.

A submission is about one sign combination. It is stored with `source=agent` and an author, and takes the place of the
same author's earlier text only. The same text again changes nothing, but that it is current again, with its scores, if
another one had taken its place. What can be measured without a judge (claimed output tokens; pairs of sentences) is
measured before anything is written, so that text and scores appear together or not at all.

A text without the neuron's `brief_id` is stored *unsealed*: nobody knows what its writer has seen. It takes the place
of no sealed text, and the words of a sealed one add nothing to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronagent.domain import Explanation, NeuronId, Score, SignCombination, Split
from neuronagent.errors import NeuronagentError, UsageError
from neuronagent.explain import draft_answer
from neuronagent.explain.draft_answer import LABEL_LENGTH, LABEL_WORDS, TEXT_LENGTH, TOKEN_LENGTH, TOKENS, DraftError
from neuronagent.explain.evidence import MINIMUM_STRONG
from neuronagent.explain.pairs import LONGEST, PAIRS, Pair, problems
from neuronagent.explain.scorers.generation import GENERATION, GIVEN_EDITS
from neuronagent.explain.scorers.output import PROMOTED, RANDOM_TOKENS
from neuronagent.service import tool_brief
from neuronagent.service.direct_output import OutputTokens
from neuronagent.service.human import LONGEST_AUTHOR
from neuronagent.service.live.questions import Asks
from neuronagent.service.live_scores import (
    PROTOCOL,
    LiveScores,
    Sentences,
    claimed,
    claimed_tokens,
    is_scored,
    store_scores,
    stored_pairs,
)
from neuronagent.service.lookup import Index
from neuronagent.service.plain_text import one_line, refuse_hidden
from neuronagent.store.engine import writing
from neuronagent.store.explanations import Scored, StoredExplanation, StoredScore, add_scored, make_current

AGENT = "agent"
_STAYS = "it stays replaced: only with brief_id would it take the place of the sealed text that is current"
_MARKS = str.maketrans({"⏎": "\n", "⇥": "\t"})  # as `untrusted.clean` shows them


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a client says of one combination; `positive` and `negative` are pairs, place by place."""

    neuron: NeuronId
    combination: SignCombination
    author: str
    label: str
    trigger: str
    context: str = ""
    not_when: str = ""
    summary: str = ""
    promotes: Sequence[str] = ()
    suppresses: Sequence[str] = ()
    confidence: float = 0.5
    positive: Sequence[str] = ()
    negative: Sequence[str] = ()
    model: str = ""
    brief_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What came of it. `attempt`: the how-manieth text of any agent for this unit, those that were replaced included:
    authors name themselves, so that only all together say how often it was tried. `missing`: what could not be
    measured, and why; `left_out`: what does not count of what was given."""

    id: int
    new: bool
    replaced: tuple[int, ...]
    attempt: int
    missing: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass
class Measured:
    """Scores, and what there is to say about those that are not there."""

    scores: list[Score] = field(default_factory=list[Score])
    missing: list[str] = field(default_factory=list[str])
    left_out: list[str] = field(default_factory=list[str])


def submit(
    index: Index, submission: Submission, live: Asks | None, fresh: Callable[[], Index] | None = None
) -> Submitted:
    """Check, measure and store a submission; `fresh` looks once more, before anything is written, whether the index is
    still the one that was read.

    Raises:
        UsageError: something in it is empty, too long, hides or is of another form; or too few examples.
        NotFoundError: no such neuron.
        StorageError: the index cannot be written.
    """
    neuron, c = submission.neuron, submission.combination
    if not index.neuron(neuron).record.combinations:
        raise UsageError(tool_brief.WEIGHTS_ALONE, remedy="a person can run: neuronagent index MODEL --text SOURCE")
    _refuse_few(index, neuron, c)
    tokens = OutputTokens(index)
    explanation, author = _checked(index, submission, tokens), _author(submission)
    sealed = submission.brief_id == explanation.evidence_hash
    known = [f"no single token: {token!r}" for token in _unknown(explanation, tokens)]
    tried, current, same = _earlier(index, explanation, author, unsealed=not sealed)
    if same is not None:  # with its pairs, if none are given now
        explanation = same.explanation
    done = index.reader.scores(same.id) if same is not None else []
    measured = measure(index, explanation, live, [] if same is None else done)
    unsealed = same.unsealed if same is not None else not sealed
    replaced = tuple(e.id for e in current if e.unsealed or not unsealed)
    (fresh or (lambda: index))()
    if same is None:
        identifier = _store(index, explanation, author, measured.scores, unsealed=unsealed)
    else:
        identifier = same.id
        if measured.scores:
            store_scores(index, same.id, measured.scores, index.explainer.tau(neuron, c))
        if same.superseded_by is None:
            replaced = ()
        elif sealed or all(e.unsealed for e in current):
            _make_current(index, same.id)
        else:
            replaced, known = (), [_STAYS, *known]
    return Submitted(
        id=identifier,
        new=same is None,
        replaced=replaced,
        attempt=tried + (same is None),
        missing=tuple(measured.missing),
        left_out=(*known, *measured.left_out),
    )


def measure(index: Index, explanation: Explanation, live: Asks | None, done: Sequence[StoredScore]) -> Measured:
    """What the model says of an explanation's claims and pairs, but for what is among the scores `done` already."""
    neuron, c, found = explanation.neuron, explanation.combination, Measured()
    promoted, suppressed = claimed(index, explanation)
    pairs = stored_pairs(explanation)
    wants_output = bool(promoted or suppressed) and not is_scored(done, PROMOTED, RANDOM_TOKENS)
    wants_pairs = bool(pairs) and not is_scored(done, GENERATION, GIVEN_EDITS)
    if not (promoted or suppressed):
        found.missing.append("output: promotes and suppresses are empty")
    if not pairs:
        found.missing.append("generation: positive and negative sentences are missing")
    shown = tool_brief.passages(index.explainer.brief(neuron)) if pairs else ()
    # Said each time, also of pairs that are scored already or cannot be.
    wrong = {place: why for place, why in enumerate(problems(pairs, shown)) if why is not None}
    if live is not None:
        scores = LiveScores(index, live)
        if wants_output:
            _try(found, "output", lambda: found.scores.extend(scores.output(neuron, c, promoted, suppressed)))
        if wants_pairs:

            def generate() -> None:
                generated = scores.generation(neuron, c, Sentences(pairs=pairs, blind=False, shown=shown))
                found.scores.extend(generated.scores)
                wrong.update(generated.problems)

            _try(found, "generation", generate)
    elif wants_output or wants_pairs:
        wanted = [name for name, wants in (("output", wants_output), ("generation", wants_pairs)) if wants]
        found.missing.append(f"{' and '.join(wanted)}: this server runs no model")
    found.left_out.extend(f"pair {place + 1}: {why}" for place, why in sorted(wrong.items()))
    return found


def _try(found: Measured, name: str, ask: Callable[[], None]) -> None:
    """A model that cannot be asked costs the score, not the text."""
    try:
        ask()
    except NeuronagentError as error:
        found.missing.append(f"{name}: {error}")


def _refuse_few(index: Index, neuron: NeuronId, c: SignCombination) -> None:
    evidence = index.explainer.evidence(neuron)
    if evidence.combinations[c].enough(Split.EXPLAIN):
        return
    found = len(evidence.combinations[c].strong[Split.EXPLAIN])
    others = [d.value for d, own in evidence.combinations.items() if own.enough(Split.EXPLAIN)]
    raise UsageError(
        f"{neuron} has {found} strong tokens from distinct texts in {c.value}, {MINIMUM_STRONG} are needed",
        remedy=f"explain {', '.join(others)}"
        if others
        else "choose another neuron: none of its combinations has enough",
    )


def _checked(index: Index, given: Submission, tokens: OutputTokens) -> Explanation:
    """The explanation that a submission is."""
    needs = {"label": f"say in at most {LABEL_WORDS} words what it is about", "trigger": "say what it responds to"}
    lengths = {"label": LABEL_LENGTH, "trigger": TEXT_LENGTH, "context": TEXT_LENGTH, "not_when": TEXT_LENGTH}
    texts: dict[str, Any] = {
        name: one_line(name, getattr(given, name), longest, empty=needs.get(name)) for name, longest in lengths.items()
    }
    summary = one_line("summary", given.summary, TEXT_LENGTH, empty=None) or texts["trigger"]
    claims = {
        name: _tokens(name, said, tokens)
        for name, said in (("promotes", given.promotes), ("suppresses", given.suppresses))
    }
    pairs = _pairs(given)
    c = given.combination
    row = {"combination": c.value, **texts, "summary": summary, **claims, "confidence": given.confidence}
    try:
        draft = draft_answer.read({"neuron_summary": summary, "combinations": [row], "same": []}, [c])
    except DraftError as error:
        said = str(error).removeprefix("combinations.0.").replace("Value error, ", "")
        raise UsageError(said, remedy="see `answer` of neuron_brief") from error
    stored = draft.combinations[c].to_json()
    return Explanation(
        neuron=given.neuron,
        combination=c,
        source=AGENT,
        text=draft.text(c),
        claims=stored | ({"pairs": [pair.to_json() for pair in pairs]} if pairs else {}),
        evidence_hash=tool_brief.brief_id(str(index.info.get("fingerprint")), given.neuron),
        prompt_version=tool_brief.VERSION,
        model=one_line("model", given.model, LONGEST_AUTHOR, empty=None),
    )


def _author(given: Submission) -> str:
    return one_line("author", given.author, LONGEST_AUTHOR, empty="give a name")


def _tokens(what: str, given: Sequence[str], tokens: OutputTokens) -> list[str]:
    """Claimed tokens as the vocabulary has them: a client may have lost the space before one, or quote a mark that
    stands for a line break."""
    if len(given) > TOKENS:
        raise UsageError(f"{what} has {len(given)} tokens", remedy=f"name at most {TOKENS}, the most certain first")
    for token in given:
        if not token:
            raise UsageError(f"{what} has an empty token", remedy="name tokens as quoted, or none")
        if len(token) > TOKEN_LENGTH:
            raise UsageError(f"{what} has a token of {len(token):,} characters", remedy=f"allowed: {TOKEN_LENGTH}")
        refuse_hidden(what, token)
    forms = ([token, token.translate(_MARKS), f" {token}"] for token in given)
    return [next((form for form in said if form in tokens.ids), said[0]) for said in forms]


def _unknown(explanation: Explanation, tokens: OutputTokens) -> list[str]:
    """Claimed tokens that are no single token of the vocabulary."""
    return [token for side in claimed_tokens(explanation) for token in side if token not in tokens.ids]


def _pairs(given: Submission) -> list[Pair]:
    positive, negative = len(given.positive), len(given.negative)
    if positive != negative:
        raise UsageError(
            f"there are {positive} positive sentences and {negative} negative ones",
            remedy="give each positive sentence its minimal edit, at the same place",
        )
    if positive > PAIRS:
        raise UsageError(f"there are {positive} pairs of sentences", remedy=f"give at most {PAIRS}")
    sides = (
        [one_line(f"{name} sentence", text, LONGEST, empty="write one, or leave the pair out") for text in texts]
        for name, texts in (("positive", given.positive), ("negative", given.negative))
    )
    return [Pair(fires=fires, edited=edited) for fires, edited in zip(*sides, strict=True)]


def _earlier(
    index: Index, explanation: Explanation, author: str, *, unsealed: bool
) -> tuple[int, list[StoredExplanation], StoredExplanation | None]:
    """How many texts agents have written of this unit, those of the author that are current, and which of the author's
    says the same: one that is current, else one that was replaced."""
    stored = index.reader.explanations(explanation.neuron, explanation.combination, superseded=True)
    agents = [e for e in stored if e.explanation.source == AGENT]
    own = [e for e in agents if e.author == author]
    same = [e for e in own if _same(e, explanation, unsealed)]
    first = min(same, key=lambda e: (e.superseded_by is not None, e.unsealed, -e.id), default=None)
    return len(agents), [e for e in own if e.superseded_by is None], first


def _same(stored: StoredExplanation, explanation: Explanation, unsealed: bool) -> bool:
    """Whether `explanation` adds nothing: pairs that were given once need not be given again, nor need the brief."""
    was, now = dict(stored.explanation.claims), dict(explanation.claims)
    if "pairs" not in now:
        was.pop("pairs", None)
    said, says = stored.explanation, explanation
    return (
        was == now
        and (said.text, said.model, said.evidence_hash) == (says.text, says.model, says.evidence_hash)
        and (unsealed or not stored.unsealed)
    )


def _store(index: Index, explanation: Explanation, author: str, scores: Sequence[Score], *, unsealed: bool) -> int:
    """Text and scores in one transaction. Two that write the same at once store it once."""
    tau = index.explainer.tau(explanation.neuron, explanation.combination)
    scored = Scored(explanation=explanation, scores=scores, tau=tau, author=author, unsealed=unsealed)
    with writing(index.target) as engine:
        return add_scored(engine, [scored], protocol_version=PROTOCOL)[0]


def _make_current(index: Index, explanation_id: int) -> None:
    with writing(index.target) as engine:
        make_current(engine, explanation_id)
