"""What a language model may answer when it is asked for explanations: JSON of a fixed form, checked to the letter.

What does not have that form is no explanation. Whoever wrote it, a model behind a server or one that uses the tools, it
is untrusted text: control characters go, lengths are bounded, and combinations that were not asked about are an error.

The judged text of a combination (`Claims.text`) is its label, trigger, context and what does not belong to it. The
output tokens are not in it: they come from the weights and have a score of their own. What comes next in the *text* is
often the job, and the prompt asks for it in the trigger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from neuronagent.domain import COMBINATIONS, SignCombination
from neuronagent.explain.llm.chat import read_object

LABEL_WORDS, LABEL_LENGTH, TEXT_LENGTH = 8, 100, 400
LONGEST_TEXT = LABEL_LENGTH + 3 * TEXT_LENGTH + len("Not: ....   ")
"""Characters of the judged text of one combination, at most."""
TOKENS, TOKEN_LENGTH = 12, 60
ANSWER_LENGTH = 50_000


class DraftError(ValueError):
    """An answer that is no draft; the message says what is wrong, for the model that is asked again."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a draft says of one combination. `promotes` and `suppresses` are output tokens as text, spaces kept."""

    label: str
    summary: str
    trigger: str
    context: str
    not_when: str
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]
    confidence: float

    @property
    def text(self) -> str:
        """The explanation in one paragraph, as a judge and a person read it."""
        parts = [self.label, self.trigger, self.context, self.not_when and f"Not: {self.not_when}"]
        return " ".join(part if part[-1] in ".!?…" else f"{part}." for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"promotes": list(self.promotes), "suppresses": list(self.suppresses)}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One candidate: claims for every combination asked about. `same`: groups that its writer cannot tell apart."""

    neuron_summary: str
    combinations: Mapping[SignCombination, Claims]
    same: tuple[tuple[SignCombination, ...], ...]

    def text(self, combination: SignCombination) -> str:
        """The judged text of a combination."""
        return self.combinations[combination].text

    def claims(self, combination: SignCombination) -> dict[str, Any]:
        """What is stored beside the text: the claims, and what was said of the neuron."""
        same = next((group for group in self.same if combination in group), ())
        return self.combinations[combination].to_json() | {
            "neuron_summary": self.neuron_summary,
            "same": [c.value for c in same if c is not combination],
        }


def plain_line(text: str) -> str:
    """One line without anything that hides or moves."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _text(value: str) -> str:
    plain = plain_line(value)
    if len(plain) > TEXT_LENGTH:
        raise ValueError(f"longer than {TEXT_LENGTH} characters")
    return plain


def _needed(value: str) -> str:
    if not value:
        raise ValueError("empty")
    return value


def _label(value: str) -> str:
    if len(value.split()) > LABEL_WORDS or len(value) > LABEL_LENGTH:
        raise ValueError(f"longer than {LABEL_WORDS} words or {LABEL_LENGTH} characters")
    return value


def _tokens(values: list[str]) -> list[str]:
    """Tokens keep their spaces, line breaks and tabs, which are part of them; each once."""
    kept = ["".join(c for c in value if c.isprintable() or c in "\n\t") for value in values]
    if len(kept) > TOKENS or any(len(token) > TOKEN_LENGTH for token in kept):
        raise ValueError(f"more than {TOKENS} tokens, or one longer than {TOKEN_LENGTH} characters")
    return list(dict.fromkeys(token for token in kept if token))


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("not between 0 and 1")
    return value


# Bounds are checked by functions rather than stated in the schema: some servers refuse schemas that state them.
PlainText = Annotated[str, AfterValidator(_text)]
NeededText = Annotated[PlainText, AfterValidator(_needed)]
_Tokens = Annotated[list[str], AfterValidator(_tokens)]


# Forms that an answer has to the letter: nothing more, nothing converted. Docstrings would go into the JSON schema.
class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Named(StrictModel):
    combination: str


class ClaimsAnswer(StrictModel):
    label: Annotated[NeededText, AfterValidator(_label)]
    summary: NeededText
    trigger: NeededText
    context: PlainText
    not_when: PlainText
    promotes: _Tokens
    suppresses: _Tokens
    confidence: Annotated[float, AfterValidator(_share)]

    def claims(self) -> Claims:
        values: dict[str, Any] = {name: getattr(self, name) for name in ClaimsAnswer.model_fields}
        values |= {"promotes": tuple(self.promotes), "suppresses": tuple(self.suppresses)}
        return Claims(**values)


# The name of the combination comes first: a server that fills in a schema writes in its order.
class _CombinationAnswer(ClaimsAnswer, _Named):
    pass


class _Answer(StrictModel):
    neuron_summary: NeededText
    combinations: list[_CombinationAnswer]
    same: list[list[str]]


def answer_schema(asked: Sequence[SignCombination]) -> dict[str, Any]:
    """The JSON schema of an answer about these combinations."""
    schema = _Answer.model_json_schema()
    names: dict[str, Any] = {"type": "string", "enum": [c.value for c in asked]}
    schema["$defs"]["_CombinationAnswer"]["properties"]["combination"] = names
    schema["properties"]["same"]["items"]["items"] = names
    return schema


def parse(text: str, asked: Sequence[SignCombination]) -> Draft:
    """The draft that an answer is: one JSON object and nothing else, but for a code fence round it.

    Raises:
        DraftError: it is not JSON of the form asked for, is too long, or is about other combinations.
    """
    value = read_object(text) if len(text) <= ANSWER_LENGTH else None
    if value is None:
        raise DraftError("the answer is not one JSON object, or is too long")
    return read(value, asked)


def read(value: object, asked: Sequence[SignCombination]) -> Draft:
    """The draft that a JSON value is: the same checks for what a tool is given.

    Raises:
        DraftError: see `parse`.
    """
    try:
        answer = _Answer.model_validate(value)
    except ValidationError as error:
        raise draft_error(error) from error
    found: dict[SignCombination, Claims] = {}
    for own in answer.combinations:
        c = _named(own.combination, asked)
        if c in found:
            raise DraftError(f"{c.value} is explained twice")
        found[c] = own.claims()
    missing = [c.value for c in asked if c not in found]
    if missing:
        raise DraftError(f"there is no entry for {', '.join(missing)}")
    return Draft(
        neuron_summary=answer.neuron_summary,
        combinations={c: found[c] for c in asked},
        same=_groups(answer.same, asked),
    )


def draft_error(error: ValidationError) -> DraftError:
    """The first thing that is wrong, in one line."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return DraftError(plain_line(f"{where}: {first['msg']}" if where else first["msg"])[:200])


def _named(name: str, asked: Sequence[SignCombination]) -> SignCombination:
    plain = name.replace("−", "-").strip()
    for c in asked:
        if c.value == plain:
            return c
    raise DraftError(f"{plain_line(name)[:20]!r} is not one of {', '.join(c.value for c in asked)}")


def _groups(same: Sequence[Sequence[str]], asked: Sequence[SignCombination]) -> tuple[tuple[SignCombination, ...], ...]:
    """Groups of two and more, in the order of combinations; one alone says nothing."""
    groups = [{_named(name, asked) for name in group} for group in same]
    groups = [group for group in groups if len(group) > 1]
    if sum(map(len, groups)) != len(set[SignCombination]().union(*groups)):
        raise DraftError("a combination is in two groups of `same`")
    return tuple(tuple(c for c in COMBINATIONS if c in group) for group in groups)
