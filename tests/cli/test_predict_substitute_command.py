"""`neuronagent predict substitute` on the command line: tables, JSON, and what it says to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronagent.cli.predict_substitute_card import print_substitution
from neuronagent.predictability.substitution import Measured, SubstitutionView
from tests.cli.conftest import Cli
from tests.predictable import scored


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a scored fit of neighbouring layers."""
    return scored(tmp_path_factory.mktemp("substituted"))


def test_table_1_has_the_unmodified_model_above_it_and_halves_below(cli: Cli, db: Path) -> None:
    run = (
        "predict", "substitute", "--db", db, "--device", "cpu", "--tokens", "100", "--draws", "1", "--sources", "clean",
    )  # fmt: skip
    ran = cli(*run, "--halves", "--intervals")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "default: the test documents of documents.jsonl"
    assert "windows of 128 tokens, stride 127" in lines[1]
    assert lines[2].startswith("unmodified model: ")
    titles = lines[4].split()
    assert titles == ["mapping", "setting", "chunk", "1", "chunk", "2", "chunk", "3", "mean"]
    rows = [line.split() for line in lines[5:13]]
    assert [row[:2] for row in rows] == [
        [mapping, setting]
        for mapping in ("predicted", "random", "zero", "identical")
        for setting in ("complete", "partial")
    ]
    assert {row[2] for row in rows} == {"–"}
    assert "–: chunk 1: no layer of it (0) has a map from a lower layer" in lines
    assert "chunk 2: layer 1, 0→1" in lines
    assert "halves of the replaced layers, complete, clean sources: the test documents of documents.jsonl" in lines
    half = lines[lines.index("chunk 3: layer 2, 1→2") :]
    assert sum(line.split()[:1] == ["Pearson"] for line in half) == 1
    assert any(line.split()[:3] == ["all", "predicted", "predicted"] for line in half)
    assert max(len(line) for line in lines if "--db" not in line) <= 100

    found = cli(*run, "--halves", "--json").json
    assert (found["computed"], found["kept"]) == (0, 3 * (8 + 32))
    (text,) = found["texts"]
    assert text["text"]["original"]["perplexity"] > 1
    assert len(text["cells"]) == 24
    assert len(found["halves"]["cells"]) == 96
    shown = cli("predict", "substitute", "--db", db, "--stored", "--json").json
    assert shown["texts"] == found["texts"]
    assert "computed" not in shown


def test_a_dry_run_says_what_it_would_take(cli: Cli, db: Path) -> None:
    ran = cli("predict", "substitute", "--db", db, "--dry-run", "--text", "anything", "--model", "/nowhere")
    assert ran.code == 0, ran.err
    assert "42 cells on the test documents and 1 other text, about 20,000 tokens each" in ran.out
    assert cli("predict", "substitute", "--db", db, "--dry-run", "--json").json["runs"] == 2 * 9


def test_mistakes_are_told_in_one_line(cli: Cli, db: Path) -> None:
    for given, code, said in (
        (("--sources", "own"), 2, "allowed: clean, chained, both"),
        (("--stored", "--again"), 2, "leave one out"),
        (("--fit", "nothing"), 3, "there is no complete fit nothing of this index"),
        (("--stored", "--fit", "nothing"), 3, "this index has no fit nothing"),
        (("--source", "2"), 3, "no map from layer 2 to a higher one"),
        (("--window", "20", "--stride", "20"), 2, "allowed: 1 to 19"),
        (("--text", "/nowhere/at/all"), 7, "/nowhere/at/all"),
    ):
        ran = cli("predict", "substitute", "--db", db, "--device", "cpu", "--tokens", "100", *given)
        assert ran.code == code, ran.err
        assert said in ran.err
        assert "Traceback" not in ran.err


def test_large_and_missing_perplexities_are_shown_as_in_the_paper() -> None:
    from io import StringIO

    from rich.console import Console

    def of(perplexity: float | None, loss: float | None, reason: str | None) -> Measured:
        return Measured(perplexity=perplexity, lo=None, hi=None, loss=loss, change=loss, change_lo=None, change_hi=None,
                        draws=[], reason=reason)  # fmt: skip

    cells = (of(31.5, 3.45, None), of(1e5, 11.5, None), of(None, 900.0, "too large"), of(None, None, "logits\x1b[31m"))
    view = SubstitutionView(
        text={
            "schema_version": 1, "settings_id": "", "source": "a text", "tokens": 9, "available": 9, "documents": 1,
            "windows": 1, "stays": [], "original": of(10.0, 2.3, None), "device": "cpu", "warnings": [],
            "chunks": [
                {"name": f"chunk {n}", "layers": [n], "replaced": [[n, n - 1]], "stays": []} for n in range(1, 5)
            ],
            "settings": {
                "version": 1, "identity": "", "text": "a text", "fingerprint": "", "window": 8, "stride": 7,
                "source": None, "chunks": [[1], [2], [3], [4]], "seeds": [],
            },
        },
        cells=[
            {
                "settings_id": "", "mapping": "zero", "setting": "complete", "sources": "clean", "chunk": n,
                "measured": own,
            }
            for n, own in enumerate(cells)
        ],
        averages=[{"mapping": "zero", "setting": "complete", "sources": "clean", "perplexity": None}],
    )  # fmt: skip
    drawn = StringIO()
    print_substitution(Console(file=drawn, width=100), "default", [view], False, None)
    row = next(line for line in drawn.getvalue().splitlines() if line.startswith("zero"))
    assert row.split() == ["zero", "complete", "31.50", ">", "1000", ">", "1000", "–", "–"]
    assert "\x1b" not in drawn.getvalue()
