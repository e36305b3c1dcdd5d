"""The pages of a running server, drawn from contents made by hand: what is missing, and what means harm."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from neuronagent.report.environment import policy, policy_of
from neuronagent.report.server_content import Frame, Hit, LayerContent, Listed, LiveContent, LiveHit, SearchContent
from neuronagent.report.server_pages import error_page, layer_page, live_page, search_page
from tests.report.sample_content import ATTACKS

FRAME = Frame(model=ATTACKS, provenance=ATTACKS, live=None)
_CLASS: Any = {
    "name": "depletion",
    "colour": "depletion",
    "atypical": True,
    "count": 3,
    "share": 1.0,
    "href": "/?class=d",
}
_SAID: Any = {
    "combination": "gate+_in-",
    "text": ATTACKS,
    "verdict": ATTACKS,
    "unsealed": True,
    "auroc": None,
    "lo": None,
    "hi": None,
    "more": 2,
}
_HIT = Hit(
    neuron="1.2", href="/neuron/1.2", layer=1, io_class="atypical depletion", colour="depletion", atypical=True,
    role=None, cos_gate_in=None, cos_gate_out=-0.72, cos_in_out=0.0, frequency=[None] * 4, mass_share=[None] * 4,
    match=None, sorted_by=None, said=_SAID, writes=None,
)  # fmt: skip


def shown(page: str) -> str:
    """The text of a page, without style, scripts and markup."""
    return " ".join(html.unescape(re.sub(r"(?s)<(style|script)>.*?</\1>|<[^>]*>", " ", page)).split())


def search(**changes: Any) -> SearchContent:
    columns: Any = {
        key: {"name": key, "href": "/", "sorted": "none"}
        for key in ("neuron", "cos_gate_in", "cos_gate_out", "cos_in_out", "frequency_pp", "frequency_pm",
                    "frequency_mp", "frequency_mm")
    }  # fmt: skip
    found = Listed(
        total=1, first=1, last=1, hits=[_HIT], columns=columns, sorted_by="‖w_out‖", matched=True, previous=None,
        next="/?page=2", note=ATTACKS,
    )  # fmt: skip
    form: Any = {"q": ATTACKS, "layer": ATTACKS, "narrowed": True}
    for key in ("places", "classes", "roles", "sorts"):
        form[key] = [{"value": ATTACKS, "label": ATTACKS, "chosen": True}]
    content = SearchContent(
        frame=FRAME, facts=[{"name": "corpus", "value": ATTACKS}], classes=[_CLASS], neurons=3, form=form,
        error=ATTACKS, found=found,
    )  # fmt: skip
    return content | changes  # type: ignore[return-value]


def live(hits: list[LiveHit], texts: list[str]) -> LiveContent:
    values = [(0.0, 0.0, 0.0, 0.0), *((1.0, -2.0, 0.75, -1.5) for _ in texts[1:])]
    tokens: Any = [{"text": t, "position": p, "ranked": p > 0, "chosen": p == 1} for p, t in enumerate(texts)]
    followed: Any = {
        "neuron": "1.2", "href": "/neuron/1.2", "io_class": "depletion", "colour": "depletion", "atypical": False,
        "values": values, "scale": 1.5, "counts": [0, len(texts) - 1, 0, 0], "frequency": [None] * 4,
        "tokens": len(texts) - 1, "strong": 0,
    }  # fmt: skip
    return LiveContent(
        frame=FRAME, text="".join(texts), follow=ATTACKS, layers=ATTACKS, error=None,
        combinations=[{"value": "", "label": "any", "chosen": True}],
        found={"tokens": tokens, "position": 1, "token": texts[1], "total": 5, "hits": hits, "followed": [followed],
               "dtype": "float32"},
    )  # fmt: skip


def live_hit(**changes: Any) -> LiveHit:
    own: Any = {
        "neuron": "1.2", "href": "/neuron/1.2", "io_class": "depletion", "colour": "depletion", "atypical": False,
        "combination": None, "x_gate": 0.0, "x_in": -0.5, "act": 0.0, "post": 0.0, "written": 0.0, "frequency": None,
        "strong": None, "followed": True,
    }  # fmt: skip
    return own | changes


LAYER = LayerContent(
    frame=FRAME, layer=0, layers=1, previous=None, next=None, everything="/?layer=0", neurons=3, classes=[_CLASS],
    roles=[], combinations=[], extremes=[],
    cosines=[
        {"name": "cos(in,out)", "median": None, "q10": None, "q90": None, "lo": -0.1, "hi": 0.1, "outside": None}
    ],
)  # fmt: skip


@pytest.mark.parametrize(
    "page",
    [
        search_page(search()),
        layer_page(LAYER),
        live_page(live([live_hit()], ["<bos>", ATTACKS, "\n", "", "שלום"])),
        error_page(ATTACKS, ATTACKS),
    ],
    ids=["search", "layer", "live", "error"],
)
def test_what_means_harm_stays_text(page: str) -> None:
    scripts = len(re.findall("<script", page))
    assert scripts == (1 if "neuron.js" in page or 'id="said"' in page else 0)
    assert not re.search("<img|<iframe", page)
    bare = re.sub(r"(?s)<textarea.*?</textarea>|<input[^>]*>", "", page)  # what was typed is given back as it was
    assert not re.search("[\u200b\u202a-\u202e\u2066\x00\x1b\ud800]", bare)
    assert "&lt;script&gt;" in page
    assert policy_of(page) == html.unescape(policy_of(page))
    assert "form-action 'self'" in policy_of(page)


def test_a_page_says_its_own_policy() -> None:
    page = error_page("404", "nothing")
    assert policy_of(page) == policy(connect=True)
    assert "script-src 'none'" in policy_of(page)
    assert policy_of("<html>") == policy()


def test_what_is_not_known_is_a_dash_and_not_a_zero() -> None:
    row = re.search(r"(?s)<tbody>.*?</tbody>", search_page(search()))
    assert row
    assert shown(row[0]).startswith("1.2 atypical depletion – −0.72 +0.00 – – – – – –")
    bare = shown(layer_page(LAYER))
    assert "No corpus was run" in bare
    assert "No neuron of this layer has a functional role" in bare


def test_a_neuron_at_an_exact_zero_is_in_no_combination() -> None:
    page = shown(live_page(live([live_hit()], ["<bos>", "a"])))
    assert "exact zero 0 −0.5 0 0 0 – –" in page
    strong = shown(live_page(live([live_hit(combination="gate-_in-", strong=True)], ["<bos>", "a"])))
    assert "gate− in− 0 −0.5 0 0 0 – strong" in strong


def test_nothing_found_is_said_without_an_empty_table() -> None:
    empty = search(found=search()["found"] | {"hits": [], "total": 0, "note": "No neuron."})  # type: ignore[operator]
    page = search_page(empty)
    assert "<table" not in page
    assert "No neuron." in shown(page)
    assert "No neuron is in that combination" in shown(live_page(live([], ["<bos>", "a"])))


def test_the_tokens_of_a_text_can_be_chosen_but_for_bos() -> None:
    page = live_page(live([live_hit()], ["<bos>", " a", "\n"]))
    assert re.findall(r'<button name="position" value="(\d)"', page.partition('id="h-top"')[0]) == ["1", "2"]
    assert page.count("tabindex=0") == 1
    assert 'data-v="+1\t−2\t+0.75\t−1.5"' in page
