"""`neuronagent search --concept`: the neurons and sign combinations that a user's own labels pick out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neuronagent.cli import text
from neuronagent.cli.criteria import Criteria
from neuronagent.cli.output import page, print_json
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.lookup import Index

View = Mapping[str, Any]
_ALL = 1_000_000_000
_WIDEST_TOKEN = 10


def search_concept(
    file: str, wanted: Criteria, *, combination: str | None, model: str | None, device: str, db: str | None, json: bool
) -> None:
    """Print what is found; the criteria of a search say which neurons are tried."""
    chosen = None if combination is None else SignCombination.parse(combination)

    from neuronagent.service import views
    from neuronagent.service.live import concept, concept_items
    from neuronagent.service.live.concept_results import concept_view
    from neuronagent.service.live.model import open_live
    from neuronagent.service.lookup import open_index

    if wanted.limit > concept.MAX_LIMIT:
        raise UsageError(f"{wanted.limit:,} rows are not scored", remedy=f"allowed: --limit 1 to {concept.MAX_LIMIT}")
    items = concept_items.read_labelled(file)
    with open_index(db) as index, terminal_progress() as progress:
        among = None if index.is_imported else _among(index, wanted)
        progress.start("loading the model", 0, "")
        found = concept.search_concept(
            open_live(index, model, device=device), items, limit=wanted.limit, layers=wanted.layers or None,
            among=among, combination=chosen, progress=progress,
        )  # fmt: skip
        view = concept_view(found, views.model_view(index))
    if json:
        print_json(view)
        return
    with page() as out:
        _print(out, view, db)


def _among(index: Index, wanted: Criteria) -> list[NeuronId] | None:
    """The neurons that meet the criteria, None where there are none but layers."""
    asked = (wanted.roles, wanted.io_classes, wanted.atypical is not None, wanted.cosines, wanted.frequency)
    if not any((*asked, wanted.mass, wanted.token, wanted.explanation)):
        return None
    from neuronagent.cli.finding import find

    found = find(index, replace(wanted, sort="neuron", descending=False, limit=_ALL, offset=0))
    return [row.neuron for row in found.rows]


def _print(out: Console, view: View, db: str | None) -> None:
    from rich.text import Text

    from neuronagent.cli import card

    for line in _tried(view):
        out.print(Text(line))
    if not view["rows"]:
        out.print(Text("none of them fires in these texts in the combinations asked for"))
        return
    out.print()
    titles = [("neuron", "left"), ("searched", "left"), ("held out", "left"), ("over best control", "left")]
    table = card.plain_table([*titles, ("verdict", "wrap")])
    for row in view["rows"]:
        table.add_row(*card.cells(*_cells(row)))
    out.print(table)
    out.print()
    for line in _explained(view):
        out.print(Text(line, style="dim"))
    card.provenance(out, view["model"], f"labels {view['labels_hash']}", f"seed {view['seed']}")
    card.next_commands(out, f"neuronagent explain {view['rows'][0]['neuron']}", db=db)


def _tried(view: View) -> list[str]:
    """What was asked of what, and what chance would have answered."""
    from neuronagent.service.live.concept_statistics import FEWEST_DIVISIONS

    unit = "tokens" if view["placed"] else "texts"
    searched, held_out = (f"{half['positive']:,} : {half['negative']:,}" for half in (view["search"], view["held_out"]))
    doubled = f"; {view['doubled']:,} copies left out" if view["doubled"] else ""
    absent = f" ({view['absent']:,} more never fire here)" if view["absent"] else ""
    tried = f"{view['tried']:,} neuron × combination of {view['neurons']:,} neurons were tried{absent}."
    if view["chance_95"] is not None:
        chance = text.score(view["chance_median"]), text.score(view["chance_95"])
        tried += (
            f" By chance the best of as many reaches {chance[0]} where it is searched, and once in twenty times "
            f"{chance[1]} or more."
        )
    halves = (("searched", view["search"]), ("held out", view["held_out"]))
    few = [
        f"The {half['groups']:,} groups {said} can exchange their labels in {half['divisions']:,} ways only: no p "
        f"there, at least {FEWEST_DIVISIONS} are needed."
        for said, half in halves
        if half["divisions"] < FEWEST_DIVISIONS
    ]
    return [f"{searched} {unit} (label 1 : 0) are searched, {held_out} held out{doubled}.", tried, *few]


def _cells(row: View) -> tuple[str, ...]:
    silent = " silent" if row["direction"] == "silent" else ""
    best = next(control for control in row["controls"] if control["kind"] == row["strongest"])
    over = row["lift"]
    return (
        f"{row['neuron']}\n{text.combination(row['combination'])}{silent}",
        f"{text.score(row['search_auroc'])}\np {text.score(row['family_wise_p'])}",
        f"{text.score(row['auroc'])} {text.interval(row['lo'], row['hi'])}\nq {text.score(row['q'])}",
        f"{text.lift(over['value'])} [{text.lift(over['lo'])}, {text.lift(over['hi'])}]\n"
        f"{text.score(best['auroc'])} {_control(best)}",
        row["verdict"],
    )


def _control(control: View) -> str:
    if control["kind"] == "token":
        return f"token `{text.clipped(text.token(control['what']), _WIDEST_TOKEN)}`"
    return " ".join(filter(None, ("ordinary" if control["kind"] == "ordinary neuron" else control["kind"],
                                  text.visible(control["what"]))))  # fmt: skip


def _explained(view: View) -> list[str]:
    value = "the labelled token's |post|" if view["placed"] else "a text's strongest |post| (BOS left out)"
    first = "the place of the token" if view["placed"] else "the length of the text"
    exact = view["search"]["exact"] and view["held_out"]["exact"]
    return [
        f"AUROC [95 % interval] of {value} in the combination; below .5 it is silent where the concept is. Searched: "
        "optimistic, the best of many were taken; p: against the best of all that were tried, labels permuted "
        f"{view['permutations']:,} times. Held out: q is p by {view['held_out_permutations']:,} permutations, adjusted "
        "for the rows (Benjamini–Hochberg). Groups are permuted as wholes. Permutation p are "
        + ("exact." if exact else "approximate: groups differ in size and have both labels."),
        f"Controls: {first}, the best single token, and an ordinary neuron, the middle one of those of the same layer "
        "and of like frequency; each was chosen where it was searched.",
    ]
