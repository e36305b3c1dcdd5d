"""The page on which a person lets the model read a text: which neurons fire at a token, in which combination.

One question to the model per page (`service.live.look`), whoever else asks it meanwhile. Numbers are in the index's
signs, so that they compare with the neurons' own pages; position 0, where it is BOS, is shown and counts nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from neuronagent.domain import COMBINATIONS, IOClass, clip
from neuronagent.errors import ModelError, UsageError
from neuronagent.report.server_content import Choice, Followed, LiveContent, LiveFound, LiveHit, LiveToken
from neuronagent.service.live.activate import NeuronValues
from neuronagent.service.live.look import Look
from neuronagent.service.live.questions import Asks
from neuronagent.service.live.token_neurons import TokenNeuron
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.addresses import colour, neuron_href
from neuronagent.service.reporting.browse import frame
from neuronagent.wording import combination

ROWS = 25
MAX_FOLLOWED = 8
LONGEST_LAYERS = 60
"""Characters in which layers are named, so that no form counts up to millions of them."""
NO_MODEL = "this server runs no model"
Form = Mapping[str, Sequence[str]]


def live_content(index: Index, form: Form, live: str | None) -> LiveContent:
    """The page with the form as it was sent, nothing found yet."""
    chosen = _first(form, "combination")
    choices = [Choice(value=c.value, label=combination(c), chosen=c.value == chosen) for c in COMBINATIONS]
    return LiveContent(
        frame=frame(index, live),
        text=_text(form),
        follow=", ".join(_followed(form))[:400],
        combinations=[Choice(value="", label="any combination", chosen=not chosen), *choices],
        layers=_first(form, "layers")[:LONGEST_LAYERS],
        error=None,
        found=None,
    )


def look_at(index: Index, asks: Asks | None, form: Form) -> LiveFound:
    """What the model does on the text of `form`.

    Raises:
        UsageError: a field that cannot be understood, an empty text or one that is too long.
        NotFoundError: a neuron that does not exist.
        ModelError: no model may be asked, or it cannot answer.
    """
    if asks is None:
        raise ModelError(NO_MODEL)
    follow = _followed(form)
    if len(follow) > MAX_FOLLOWED:
        raise UsageError(f"{len(follow)} neurons are to be followed", remedy=f"allowed: {MAX_FOLLOWED} at a time")
    ids = [str(index.neuron(each).id) for each in follow]
    found: Look = asks.call(
        "look",
        text=_text(form),
        follow=list(dict.fromkeys(ids)),
        position=_position(_first(form, "position")),
        combination=_first(form, "combination") or None,
        layers=_layers(_first(form, "layers")),
        limit=ROWS,
    )
    place, top = found.top.position, found.top
    return LiveFound(
        tokens=[
            LiveToken(text=token, position=p, ranked=p >= found.first, chosen=p == place)
            for p, token in enumerate(found.tokens)
        ],
        position=place,
        token=found.tokens[place],
        total=top.total,
        hits=[_hit(row, ids) for row in top.neurons],
        followed=[_along(values, found.first) for values in found.followed],
        dtype=top.dtype,
    )


def _hit(row: TokenNeuron, followed: Sequence[str]) -> LiveHit:
    io_class = IOClass.parse(row.io_class)
    return LiveHit(
        neuron=row.neuron,
        href=neuron_href(row.neuron),
        io_class=row.io_class,
        colour=colour(io_class),
        atypical=io_class.atypical,
        combination=row.combination,
        x_gate=row.x_gate,
        x_in=row.x_in,
        act=row.post / row.x_in if row.x_in else None,  # of an exact zero nothing can be said
        post=row.post,
        written=row.written,
        frequency=row.frequency,
        strong=row.strong,
        followed=row.neuron in followed,
    )


def _along(values: NeuronValues, first: int) -> Followed:
    """The colours are full at the neuron's largest |post| here, or at the largest τ of its combinations if that is
    more, so that a neuron that does nothing here stays pale."""
    io_class = IOClass.parse(values.io_class)
    own = range(first, len(values.post))
    strong = [tau for tau in values.tau.values() if tau is not None]
    reached = [values.tau.get(values.combinations[p] or "") for p in own]
    return Followed(
        neuron=values.neuron,
        href=neuron_href(values.neuron),
        io_class=values.io_class,
        colour=colour(io_class),
        atypical=io_class.atypical,
        values=list(zip(values.x_gate, values.x_in, values.act, values.post, strict=True)),
        scale=max([*(abs(values.post[p]) for p in own), *strong], default=0.0),
        counts=[sum(values.combinations[p] == c.value for p in own) for c in COMBINATIONS],
        frequency=[values.frequency.get(c.value) for c in COMBINATIONS],
        tokens=len(own),
        strong=sum(tau is not None and abs(values.post[p]) >= tau for p, tau in zip(own, reached, strict=True)),
    )


def _text(form: Form) -> str:
    """The text as it was typed: forms send line breaks as two characters, and no page can hold a NUL."""
    return _first(form, "text").replace("\r\n", "\n").replace("\0", "\ufffd")


def _followed(form: Form) -> list[str]:
    """Neurons named in the box, and those ticked in the list, each once."""
    names = [part for field in form.get("follow", ()) for part in re.split(r"[\s,;]+", field) if part]
    return list(dict.fromkeys(names))


def _first(form: Form, field: str) -> str:
    return next(iter(form.get(field, ())), "")


def _position(given: str) -> int | None:
    if not given.strip():
        return None
    if not re.fullmatch(r"[0-9]{1,6}", given.strip()):
        raise UsageError(f"{clip(given)!r} is no position", remedy="choose a token of the text")
    return int(given)


def _layers(given: str) -> list[int] | None:
    """`3`, `0-3` or `1,5-7`; None for all."""
    if not given.strip():
        return None
    if len(given) > LONGEST_LAYERS:
        raise UsageError(
            f"the layers are named in {len(given):,} characters", remedy=f"allowed: {LONGEST_LAYERS}, such as 1,5-7"
        )
    found: list[int] = []
    for part in given.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})\s*(?:[-–]\s*([0-9]{1,4})\s*)?", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"{clip(given)!r} are no layers", remedy="write them like 3 or 0-3 or 1,5-7")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found
