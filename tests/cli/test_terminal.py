"""What a terminal and a pipe get: no escape sequences from a corpus, no colours in a pipe, nothing slow imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from neuronagent.cli import text
from neuronagent.cli.app import app
from neuronagent.cli.progress import PlainProgress, duration
from tests.cli.conftest import Cli

COMMANDS = (
    "index", "info", "show", "explain", "explanations", "score", "judge-check", "search", "check", "upgrade", "serve",
    "demo", "run", "attribute", "predict",
)  # fmt: skip


def neuronagent(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "neuronagent", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, check=False, timeout=60)


def test_nothing_in_a_corpus_reaches_the_terminal_as_it_is(cli: Cli, made_db: Path) -> None:
    for command in (("show", "0.1", "--limit", "4"), ("explain", "0.1"), ("search", "--limit", "24"), ("info",)):
        out = cli(*command, "--db", made_db).out
        assert not set(out) & set("\x1b\r\t\u202e\u202c\u200b")
        if command[0] in ("show", "explain"):
            assert "␛[31m" in out
            assert "[red]x[/red]" in out
            assert "<script>" in out
            assert "⟨U+202E⟩evil⟨U+202C⟩" in out
            assert "a⏎b→c␍" in out


def test_json_keeps_every_character_of_a_corpus_but_prints_none_that_a_terminal_obeys(cli: Cli, made_db: Path) -> None:
    ran = cli("show", "0.1", "--db", made_db, "--json")
    assert not set(ran.out.rstrip("\n")) & set("\x1b\r\t\n\u202e\u202c\u200b")
    tokens = {e["token"] for own in ran.json["combinations"].values() for e in own["examples"]["post"]}
    assert {"\x1b[31m", "\u202eevil\u202c"} & tokens


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a b", "a b"),
        ("\x00\x07\x7f", "␀␇␡"),
        ("\x9b31m", "⟨U+009B⟩31m"),
        ("\u2067x\u2069", "⟨U+2067⟩x⟨U+2069⟩"),
        ("⟦fake⟧", "⟨U+27E6⟩fake⟨U+27E7⟩"),
        ("\xa0\u2003", "⍽ "),
        ("naïve 漢字 🙂", "naïve 漢字 🙂"),
    ],
)
def test_text_is_made_visible(raw: str, shown: str) -> None:
    assert text.visible(raw) == shown


def test_contexts_are_cut_to_cells_not_characters() -> None:
    assert text.keep_end("abcdef", 4) == "…def"
    assert text.keep_end("ab", 4) == "  ab"
    assert text.keep_end("漢字漢字", 5) == "…漢字"[:3]
    assert text.keep_start("abcdef", 4) == "abc…"
    assert text.keep_start("漢字漢字", 5) == "漢字…"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.147, "14.7 %"), (0.0, "0 %"), (0.0001, "<0.1 %"), (0.996, "99.6 %"), (0.9996, ">99.9 %"), (1.0, "100 %"),
        (None, "–"),
    ],
)  # fmt: skip
def test_shares_are_never_rounded_to_nothing_nor_to_everything(value: float | None, shown: str) -> None:
    assert text.percent(value) == shown


def test_numbers_are_short() -> None:
    assert [text.number(v) for v in (-5.123, 0.0012, 12345.0, 0.0)] == ["−5.12", "+0.0012", "+1.2e+04", "+0.00"]
    assert [text.score(v) for v in (0.914, 1.0, 0.999, 0.05, 0.00342, None)] == [
        ".91", "1.0", ".999", ".050", ".0034", "–",
    ]  # fmt: skip
    assert [text.number(-0.0), text.score(-0.12), text.score(-0.003)] == ["+0.00", "−.12", "−.0030"]
    assert [text.interval(0.71, 1.0), text.interval(-0.04, 0.13)] == ["[.71–1.0]", "[−.040, .13]"]
    assert [duration(s) for s in (45, 600, 12000)] == ["45 s", "10 min", "3 h 20 min"]


def test_plain_progress_says_speed_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = PlainProgress()
    progress.start("recording neurons", 10_000, "tokens")
    progress.advance(1000)  # from an earlier run
    now[0] += 10
    progress.advance(3000)
    assert capsys.readouterr().err.splitlines() == [
        "recording neurons …",
        "recording neurons: 3,000 of 10,000 tokens, 200 tokens/s, 35 s left",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_has_a_help_text(command: str) -> None:
    group = typer.main.get_command(app)
    own = group.commands[command]  # pyright: ignore
    for part in (own, *getattr(own, "commands", {}).values()):
        assert part.help
        for parameter in part.params:
            assert getattr(parameter, "help", None), f"{command} {parameter.name}"


def test_help_and_version(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.code == 0
    assert all(f"  {command} " in ran.out for command in COMMANDS)
    assert cli().out == ran.out
    assert cli("show", "--help").out.startswith("Usage: neuronagent show")
    assert cli("--version").out.startswith("neuronagent ")


@pytest.mark.slow
def test_a_real_process_in_a_pipe(made_db: Path) -> None:
    ran = neuronagent("show", "0.1", "--db", made_db, FORCE_COLOR="1", TERM="xterm-256color")
    assert ran.returncode == 0, ran.stderr
    assert b"\x1b" not in ran.stdout
    assert ran.stderr == b""
    card = ran.stdout.decode().partition("\nnext: ")[0]
    assert max(map(len, card.splitlines())) <= 100
    assert neuronagent("show", "9.9", "--db", made_db).returncode == 3
    ascii_only = neuronagent("show", "0.1", "--db", made_db, "--json", PYTHONIOENCODING="ascii")
    assert json.loads(ascii_only.stdout.decode("ascii"))["neuron"] == "0.1"
    assert neuronagent("show", "0.1", "--db", made_db, PYTHONIOENCODING="ascii").returncode == 0


def test_a_pipe_that_closes_early_is_quiet(made_db: Path) -> None:
    command = (
        f"{sys.executable} -m neuronagent search --limit 1000 --json --db {made_db} | true; echo ${{PIPESTATUS[0]}}"
    )
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
    assert ran.stderr == b""
    assert ran.stdout.strip() == b"0"


def test_help_imports_next_to_nothing() -> None:
    program = """
import sys
from neuronagent.cli import run
run(["--help"])
print("imported", sorted({"numpy", "sqlalchemy", "rich", "torch", "pydantic", "transformers"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout.splitlines()[-1] == "imported []", ran.stderr


@pytest.mark.slow
def test_reading_never_imports_torch(made_db: Path) -> None:
    program = """
import sys
from neuronagent.cli import run
for arguments in (["show", "0.1"], ["info"], ["search", "--token", "t7", "--in", "examples"], ["check"]):
    run([*arguments, "--db", sys.argv[1]])
run(["explain", "0.1", "--json", "--db", sys.argv[1]])
late = {"torch", "transformers", "transformer_lens", "datasets", "pandas"} & set(sys.modules)
print("imported", sorted(late))
"""
    command = [sys.executable, "-c", program, str(made_db)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout.splitlines()[-1] == "imported []", ran.stderr


def test_a_bar_shows_names_of_texts_as_they_are_and_obeys_none_of_them() -> None:
    talk = r"""
from neuronagent.cli.progress import terminal_progress
with terminal_progress() as progress:
    progress.start("reading we[/red]ird\x1b]0;title\x07", 2, "texts")
    progress.advance(2)
    progress.note("left out: [b]\u202e\x1b]0;title\x07")
"""
    mine, theirs = os.openpty()
    try:
        subprocess.run([sys.executable, "-c", talk], stderr=theirs, check=True, timeout=60)
        seen = os.read(mine, 1 << 16).decode(errors="replace")
    finally:
        os.close(mine)
        os.close(theirs)
    assert "reading we[/red]ird␛]0;title␇" in seen
    assert "left out: [b]⟨U+202E⟩␛]0;title␇" in seen
    assert "\x1b]0;" not in seen


def test_an_error_repeats_a_name_but_obeys_nothing_in_it(cli: Cli, made_db: Path) -> None:
    ran = cli("predict", "scores", "--stored", "--fit", "a\x1b[31m\u202e<b>", "--db", made_db)
    assert ran.code == 3
    assert not set(ran.err) & set("\x1b\u202e")
