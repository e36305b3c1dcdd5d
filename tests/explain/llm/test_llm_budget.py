"""Prices that a user wrote down, read strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuronagent.errors import UsageError
from neuronagent.explain.llm.budget import Preview, Price, read_price


def test_a_price_is_read_and_multiplied(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"m": {"input": 2, "output": 10.5}}))
    assert read_price(path, "m") == Price(input=2.0, output=10.5)
    assert read_price(path, "m").cost(1_000_000, 100_000) == pytest.approx(3.05)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": {"input": 1, "output": 2}, "b": {"input": 1, "output": 2}}', "no price for m; it knows: a, b"),
        ("{}", "it knows: none"),
        ('{"m": {"input": -1, "output": 2}}', "not two numbers from 0"),
        ('{"m": {"input": "1", "output": 2}}', "not two numbers from 0"),
        ('{"m": {"input": true, "output": 2}}', "not two numbers from 0"),
        ('{"m": {"input": NaN, "output": 2}}', "not two numbers from 0"),
        ('{"m": {"input": 1}}', "not two numbers from 0"),
        ('{"m": 3}', "not two numbers from 0"),
        ("[1]", "holds no prices"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_prices_that_cannot_be_used_are_refused_with_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_price(path, "m")


def test_prices_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_price(tmp_path / "none.json", "m")
    with pytest.raises(UsageError, match="cannot be read"):
        read_price(tmp_path, "m")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no JSON"):
        read_price(tmp_path / "binary", "m")


def test_previews_add_up() -> None:
    one = Preview(requests=1, known=2, prompt_tokens=3, completion_tokens=4, exact=True, estimate=5, cost=0.5)
    both = one + one
    assert (both.requests, both.known, both.prompt_tokens, both.cost, both.exact) == (2, 4, 6, 1.0, True)
