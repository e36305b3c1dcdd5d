"""A neuron's page as Markdown, for issue trackers, papers and assistants: GitHub's tables, and no picture.

Whatever comes from a corpus, a tokenizer or another writer stands in code spans, in which Markdown and HTML mean
nothing and nobody is mentioned. Minus signs of numbers are ASCII, so that they can be copied into a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neuronagent import wording
from neuronagent.report import markdown_parts as parts
from neuronagent.report.content import (
    ControlRow,
    NeuronContent,
    PageCombination,
    PageExample,
    PageExplanation,
    Projection,
    ScoreRow,
    Token,
)
from neuronagent.report.markdown_foretold import foretold_lines

_TOKENS, _NEIGHBOURS, _BEFORE, _AFTER = 8, 3, 160, 40
_UNSEALED = "; its writer may have seen test items"
_HARMLESS = re.compile(r"[\w .,;:()%+−–“”/-]*")
_COSINES = {"cos_gate_in": "cos(gate, in)", "cos_gate_out": "cos(gate, out)", "cos_in_out": "cos(in, out)"}


def markdown(content: NeuronContent, *, note: str = "") -> str:
    """The whole of it; `note` is said at its head."""
    return "\n".join(_lines(content, note)) + "\n"


def _lines(content: NeuronContent, note: str) -> Iterator[str]:
    yield from _head(content)
    if note:
        yield from ("", note)
    if content["geometry"] is not None:
        yield from ("", "## Geometry", "", *_geometry(content))
    if content["vocabulary"] is not None:
        yield from ("", "## Vocabulary", "", *_vocabulary(content["vocabulary"]))
    yield from ("", "## Sign combinations", "", *_shares(content))
    for own in content["combinations"]:
        yield from ("", f"### {wording.combination(own['name'])}", "", *_combination(own, content))
    yield from ("", "## Told apart", "", *_told_apart(content["told_apart"]))
    if content["predictability"]:
        yield from ("", "## Can it be foretold?", "", *foretold_lines(content["predictability"]))
    yield from ("", "## Neighbours by weights", "", *_neighbours(content))
    yield from ("", "## Provenance", "", *_provenance(content))


def _head(content: NeuronContent) -> Iterator[str]:
    title = ": ".join((f"# Neuron {content['neuron']}", *([content["io_class"]] if content["io_class"] else ())))
    yield title + (f", role {content['role']}" if content["role"] else "")
    if content["meaning"]:
        yield from ("", _sentence(f"{content['meaning'][:1].upper()}{content['meaning'][1:]}.", ours=True))
    if content["summary"]:
        yield ""
        yield from (f"- {_sentence(sentence, ours=_ours(content))}" for sentence in content["summary"])


def _ours(content: NeuronContent) -> bool:
    """Whether all that is said of the neuron are words of rules."""
    said = (own["explanation"] for own in content["combinations"])
    return all(each is None or each["by"] == "rule" for each in said)


def _sentence(text: str, *, ours: bool) -> str:
    """A sentence with the tokens in it as code; all of it as code where it is, or may be, somebody else's."""
    pieces = text.split("`")
    if ours and len(pieces) % 2 and all(map(_HARMLESS.fullmatch, pieces[::2])):
        return "".join(parts.code(piece, 200) if place % 2 else piece for place, piece in enumerate(pieces))
    return parts.code(text, 1_000)


def _geometry(content: NeuronContent) -> Iterator[str]:
    geometry, baselines = content["geometry"] or {}, content["baselines"] or {}
    yield "| cosine | value | 95 % of unrelated pairs |"
    yield "|---|---:|---:|"
    for key, name in _COSINES.items():
        band = baselines.get(key)
        unrelated = f"{parts.signed(band['lo'])} to {parts.signed(band['hi'])}" if band else "–"
        yield parts.row(name, parts.signed(geometry.get(key)), unrelated)
    norms = ", ".join(f"{name} {parts.digits(geometry.get(f'norm_{name}'))}" for name in ("gate", "in", "out"))
    yield from ("", f"Norms: {norms}.")


def _vocabulary(vocabulary: Mapping[str, Projection]) -> Iterator[str]:
    yield "Tokens whose unembedding is nearest to each weight vector and to its negative, with the cosine of the first."
    yield ""
    for name, projection in vocabulary.items():
        yield f"- **{name}**: {_nearest(projection['top'])}; **−{name}**: {_nearest(projection['bottom'])}"


def _nearest(found: Sequence[Token]) -> str:
    if not found:
        return "none"
    return f"{_chips([token['token'] for token in found])} ({parts.signed(found[0]['cosine'])})"


def _chips(tokens: Sequence[str]) -> str:
    return (
        ", ".join(parts.code(token.replace(" ", "␣"), wording.LONGEST_TOKEN) for token in tokens[:_TOKENS]) or "nothing"
    )


# Statistics


def _has_texts(content: NeuronContent) -> bool:
    """Whether there is more than weights."""
    return content["imported"] or content["tokens"] is not None


def _shares(content: NeuronContent) -> Iterator[str]:
    if not _has_texts(content):
        yield "This index holds weights only: no corpus was run through the model."
        return
    yield "| combination | tokens | frequency | output mass | writes | strong from | mean post | least | greatest |"
    yield "|---|---:|---:|---:|---|---:|---:|---:|---:|"
    for own in content["combinations"]:
        post = own["statistics"].get("post") or {"mean": None, "min": None, "max": None}
        tau = own["histogram"]["tau"] if own["histogram"] else None
        cells = [
            wording.combination(own["name"]),
            parts.count(own["count"]),
            parts.share(own["frequency"]),
            parts.share(own["mass_share"]),
        ]
        cells += ["+w_out" if own["write_sign"] > 0 else "−w_out", parts.digits(tau)]
        yield parts.row(*cells, *(parts.number(post[key]) for key in ("mean", "min", "max")))
    if content["imported"]:
        return
    yield ""
    if content["tokens"] is not None and content["zeros"] is not None:
        yield f"Of {content['tokens']:,} tokens; {content['zeros']:,} with an exact zero belong to none."
    yield "Position 0 counts in tokens and statistics; output mass, examples and what is strong leave it out."


def _combination(own: PageCombination, content: NeuronContent) -> Iterator[str]:
    if own["promotes"] or own["suppresses"]:
        yield f"Promotes {_chips(own['promotes'])}; suppresses {_chips(own['suppresses'])}."
        yield ""
    explanation = own["explanation"]
    if explanation:
        yield from _explanation(explanation)
    else:
        reason = f" ({parts.code(own['reason'], 300)})" if own["reason"] else ""
        looks = f": `neuronagent explain {content['neuron']}` looks for one" if _has_texts(content) else ""
        yield f"No explanation is stored{reason}{looks}."
    if own["examples"]:
        yield from ("", f"Examples: post, text, split and position ({parts.code(content['examples_of'], 200)}).", "")
        yield from map(_example, own["examples"])
    else:
        yield from ("", f"No examples: {parts.code(own['no_examples'] or 'none were asked for', 300)}.")


def _example(example: PageExample) -> str:
    where = [example["split"] or "no split"]
    # Not "@118": somebody has that name.
    where += [] if example["position"] is None else [f"position {example['position']}"]
    copies = example["copies"]
    where += [f"and {copies} near {'copy' if copies == 1 else 'copies'}"] if copies else []
    return f"- {parts.number(example['value'])} {_quoted(example)} ({', '.join(where)})"


def _quoted(example: PageExample) -> str:
    tokens, marked = example["tokens"], example["marked"]
    before = wording.visible("".join(tokens[:marked])[-4 * _BEFORE :])
    after = wording.visible("".join(tokens[marked + 1 :])[: 4 * _AFTER])
    token = wording.clipped(wording.visible(tokens[marked][: 4 * _AFTER]), _AFTER)
    cut = example["before"] or len(before) > _BEFORE
    goes_on = example["after"] or len(after) > _AFTER
    before, after = before[-_BEFORE:], after[:_AFTER]
    return parts.fenced(f"{'…' if cut else ''}{before}⟦{token}⟧{after}{'…' if goes_on else ''}")


# What is said, and how good it is


def _explanation(said: PageExplanation) -> Iterator[str]:
    unfit = " (the judge failed its check)" if said["judge_fit"] is False else ""
    unsealed = _UNSEALED if said["unsealed"] else ""
    yield f"Explanation ({parts.code(said['by'], 60)}{unsealed}), verdict **{said['verdict']}**{unfit}:"
    yield from ("", parts.code(said["text"], 1_500))
    if said["scores"]:
        yield from ("", "| score | value [95 %] | strong + others | chance | note |", "|---|---:|---:|---:|---|")
        yield from map(_score, said["scores"])
    if said["controls"]:
        yield from ("", "| control | value | lift over it [95 %] |", "|---|---:|---:|")
        yield from map(_control, said["controls"])
    if said["judge"]:
        yield from ("", f"Judge: {parts.code(said['judge'], 60)}.")
    for line in said.get("judged_also", []):
        yield from ("", parts.code(line, 300))
    for other in said["others"]:
        by = parts.code(other["by"], 60) + (_UNSEALED if other["unsealed"] else "")
        yield from ("", f"Also ({by}, {other['verdict']}): {parts.code(other['text'], 300)}")


def _score(row: ScoreRow) -> str:
    name = row["name"] if row["metric"].lower() in row["name"].lower() else f"{row['metric']} {row['name']}"
    n = f"n {row['n_pos']} + {row['n_neg']}"
    note = parts.cell(row["note"], 200) if row["note"] else ""
    return parts.row(
        parts.cell(name, 60), _interval(row["value"], row["lo"], row["hi"]), n, parts.digits(row["chance"]), note
    )


def _control(row: ControlRow) -> str:
    value = "no value" if row["value"] is None else f"{row['value']:.3f}"
    lift = "–" if row["lift"] is None else parts.signed(row["lift"])
    if row["lift_lo"] is not None and row["lift_hi"] is not None:
        lift += f" [{parts.signed(row['lift_lo'])}, {parts.signed(row['lift_hi'])}]"
    return parts.row(parts.cell(row["name"], 80), value, lift)


def _interval(value: float | None, lo: float | None, hi: float | None) -> str:
    limits = f"{parts.score(lo)}, {parts.score(hi)}"
    if value is None:
        return "no value" if lo is None else f"between {limits.replace(',', ' and')}"
    return parts.score(value) if lo is None else f"{parts.score(value)} [{limits}]"


def _told_apart(found: Mapping[str, Any]) -> Iterator[str]:
    if not found.get("available"):
        yield f"Not tested: {parts.code(str(found.get('reason') or 'no reason is known'), 300)}."
        return
    unfit = " The judge failed its check." if found.get("judge_fit") is False else ""
    value, lo, hi, chance = (parts.share(found.get(key)) for key in ("value", "lo", "hi", "chance"))
    yield (
        f"{value} [{lo} to {hi}] of a combination's windows go to it, on average over the combinations (chance "
        f"{chance}, n = {found.get('windows')}, {found.get('split')} split).{unfit}"
    )
    pairs = [f"{wording.combination(a)} and {wording.combination(b)}" for a, b in found.get("not_told_apart") or []]
    if pairs:
        yield from ("", f"Not told apart: {'; '.join(pairs)}.")


def _neighbours(content: NeuronContent) -> Iterator[str]:
    if content["neighbours"] is None:
        yield f"None: {parts.code(content['no_neighbours'] or 'no reason is known', 200)}."
        return
    for name, listed in content["neighbours"].items():
        if listed:
            shown = ", ".join(f"{row['neuron']} ({parts.signed(row['cosine'])})" for row in listed[:_NEIGHBOURS])
            yield f"- {name}: {shown}"


def _provenance(content: NeuronContent) -> Iterator[str]:
    found = content["provenance"]
    tokens = "" if found["tokens"] is None else f", {found['tokens']:,} tokens"
    rows: dict[str, str | None] = {
        "neuron": content["neuron"],
        "model": found["model"] + (f" @ {found['revision']}" if found["revision"] else ""),
        "weights": found["weights_hash"],
        "dtype": found["dtype"],
        "corpus": None if found["corpus"] is None else found["corpus"] + tokens,
        "signs": found["sign_convention"],
        "index": found["fingerprint"],
        "protocols": ", ".join(found["protocols"]) or None,
        "made": found["made"],
        "neuronagent": found["version"],
    }
    published: dict[str, Any] = found["published"] or {}
    rows |= {f"published: {key}": _said(value) for key, value in published.items() if value}
    yield from ("| | |", "|---|---|")
    yield from (parts.row(key, parts.cell(value, 200)) for key, value in rows.items() if value)


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
