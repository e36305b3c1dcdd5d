"""Functional roles and neighbours at the terminal: `info --roles`, `search --role --sort`, and two parts of `show`."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronagent.domain import ROLES, NeuronId
from neuronagent.layout import WholeModel
from neuronagent.store.reader import IndexReader
from tests.cli.conftest import HOSTILE, INFO, Cli
from tests.store.made_index import make_index, make_whole


@pytest.fixture(scope="module")
def made_roles() -> WholeModel:
    return make_whole(make_index())


@pytest.fixture(scope="module")
def roles_db(tmp_path_factory: pytest.TempPathFactory, made_roles: WholeModel) -> Path:
    """A made index with roles and neighbours; some tokens are hostile."""
    made = make_index()
    made.token_table.token_bytes[:57] = [HOSTILE[i % len(HOSTILE)] for i in range(57)]
    made.info.update(INFO)
    path = tmp_path_factory.mktemp("roles") / "roles.db"
    made.write(path, whole=made_roles)
    return path


def test_the_table_of_roles_and_classes_adds_up(cli: Cli, roles_db: Path, made_roles: WholeModel) -> None:
    view = cli("info", "--roles", "--json", "--db", roles_db).json
    assert view["available"]
    assert view["thresholds"] == made_roles.info["roles"]
    assert view["neurons"] == sum(view["roles"].values()) == sum(view["io_classes"].values()) == 24
    for role, total in view["roles"].items():
        cells = [own[role] for own in view["contingency"].values()]
        assert sum(cell["count"] for cell in cells) == total
        assert sum(cell["expected"] for cell in cells) == pytest.approx(total)
    for io_class, own in view["contingency"].items():
        assert sum(cell["count"] for cell in own.values()) == view["io_classes"][io_class]
        for role, cell in own.items():
            assert cell["expected"] == pytest.approx(view["io_classes"][io_class] * view["roles"][role] / 24)


def test_input_manipulators_are_all_but_orthogonal_output(cli: Cli, roles_db: Path) -> None:
    shares = cli("info", "--roles", "--json", "--db", roles_db).json["input_manipulators"]
    by_layer = cli("info", "--json", "--db", roles_db).json["io_classes_by_layer"]
    for layer, share in shares["by_layer"].items():
        assert share == pytest.approx(1 - by_layer[layer].get("orthogonal output", 0) / 12)
    assert shares["share"] == pytest.approx(sum(shares["by_layer"].values()) / 2)


def test_the_card_of_roles_tells_thresholds_counts_and_shares(cli: Cli, roles_db: Path) -> None:
    ran = cli("info", "--roles", "--db", roles_db)
    assert ran.code == 0
    for said in ("predict.", "att. deact.", "no role", "partition: the 2 neurons", "input manipulators", "says little"):
        assert said in ran.out
    assert f"neuronagent search --role 'prediction' --sort kurtosis --db {roles_db}" in ran.out


def test_an_index_without_roles_says_so(cli: Cli, made_db: Path) -> None:
    assert "no functional roles: this index was made without" in cli("info", "--roles", "--db", made_db).out
    view = cli("info", "--roles", "--json", "--db", made_db).json
    assert (view["available"], view["thresholds"]) == (False, None)
    assert view["input_manipulators"]["by_layer"].keys() == {"0", "1"}
    assert "no neighbours: this index was made without" in cli("show", "0.0", "--db", made_db).out


def test_a_role_is_searched_for_the_most_telling_neuron_first(cli: Cli, roles_db: Path) -> None:
    view = cli(
        "search", "--role", "prediction", "--role", "Suppression", "--sort", "kurtosis", "--db", roles_db, "--json"
    )
    rows = view.json["neurons"]
    assert {row["role"] for row in rows} == {"prediction", "suppression"}
    assert [row["kurtosis"] for row in rows] == sorted((row["kurtosis"] for row in rows), reverse=True)
    smallest = cli("search", "--sort", "kurtosis", "--asc", "--db", roles_db, "--json", "--limit", "1").json["neurons"]
    every = cli("search", "--db", roles_db, "--json", "--limit", "100").json["neurons"]
    assert smallest[0]["kurtosis"] == min(row["kurtosis"] for row in every)


@pytest.mark.parametrize(
    ("key", "column"), [("skew", "skew"), ("norm", "norm_out"), ("mass", "mass"), ("double_checking",) * 2]
)
def test_neurons_can_be_ordered_by_what_the_papers_choose_by(cli: Cli, roles_db: Path, key: str, column: str) -> None:
    rows = cli("search", "--sort", key, "--db", roles_db, "--json", "--limit", "100").json["neurons"]
    values = [row[column] for row in rows if row[column] is not None]
    assert len(values) > 20
    assert values == sorted(values, reverse=True)
    card = cli("search", "--sort", key, "--db", roles_db).out
    assert column in card.splitlines()[0]
    assert f"{values[0]:+.2f}" in card.splitlines()[1] or f"{values[0]:+.2g}" in card.splitlines()[1]


def test_tokens_anywhere_in_examples_can_be_ordered_by_a_number_too(cli: Cli, roles_db: Path) -> None:
    rows = cli(
        "search", "--token", "t0", "--in", "examples", "--sort", "norm", "--db", roles_db, "--json", "-n", "50"
    ).json["neurons"]
    norms = [row["norm_out"] for row in rows]
    assert norms == sorted(norms, reverse=True)
    assert norms


def test_a_role_that_does_not_exist_is_refused_with_those_that_do(cli: Cli, roles_db: Path) -> None:
    ran = cli("search", "--role", "boss", "--db", roles_db)
    assert ran.code == 2
    assert all(role.value in ran.err for role in ROLES)


def test_a_neuron_shows_its_role_and_its_neighbours(cli: Cli, roles_db: Path, made_roles: WholeModel) -> None:
    view = cli("show", "1.2", "--db", roles_db, "--json").json
    with IndexReader.open(roles_db) as reader:
        found, role = reader.neighbours(NeuronId(1, 2)), reader.neuron(NeuronId(1, 2)).role
    assert found is not None
    assert role.role is not None
    assert view["role"]["role"] == role.role.value
    assert view["role"]["double_checking"] == role.double_checking
    neighbours = view["neighbours"]
    assert neighbours.pop("available") is True
    assert neighbours == {
        kind.value: [{"neuron": str(n.neuron), "cosine": round(n.cosine, 5)} for n in listed]
        for kind, listed in found.items()
    }
    card = cli("show", "1.2", "--db", roles_db).out
    assert f"functional role: {role.role.value}" in card
    for title in ("out, like", "out, opposite", "read by gate of", "into in from"):
        assert title in card


@pytest.mark.slow
def test_no_neuron_can_harm_a_terminal_by_the_token_that_it_double_checks(cli: Cli, roles_db: Path) -> None:
    for index in range(12):
        card = cli("show", f"0.{index}", "--db", roles_db).out
        assert not {"\x1b", "\u202e", "\u202c", "\u200b"} & set(card)
