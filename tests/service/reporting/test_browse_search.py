"""What the search of the server's pages shows of the neurons that it found."""

from __future__ import annotations

import shutil
from pathlib import Path

from neuronagent.domain import Explanation, NeuronId, SignCombination
from neuronagent.report.server_pages import search_page
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.browse import search_content
from neuronagent.service.reporting.browse_search import listed
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation
from tests.known_index import world

NEURON = NeuronId(0, 0)


def test_words_show_the_explanation_that_holds_them_and_where(tmp_path: Path) -> None:
    db = tmp_path / "copy.db"
    shutil.copy(world().db, db)
    engine = open_writer(str(db))
    for c, text in (
        (SignCombination.GATE_POS_IN_POS, "digits"),
        (SignCombination.GATE_POS_IN_NEG, "x" * 900 + " Capitals " + "y" * 900),
    ):
        said = Explanation(neuron=NEURON, combination=c, source="human", text=text, claims={}, evidence_hash="")
        add_explanation(engine, said, author="Ada")
    engine.dispose()
    with Index(str(db)) as index:
        for words, combination in (("DIGITS", "gate+_in+"), ("capitals", "gate+_in-")):
            (hit,) = listed(index, {"q": words})["hits"]
            assert hit["neuron"] == "0.0"
            assert hit["said"] is not None
            assert hit["said"]["combination"] == combination
            assert words.lower() in hit["said"]["text"].lower()
            assert len(hit["said"]["text"]) <= 201


def test_an_explanation_whose_writer_may_have_seen_test_items_is_marked(tmp_path: Path) -> None:
    db = tmp_path / "copy.db"
    shutil.copy(world().db, db)
    engine = open_writer(str(db))
    for c, unsealed in ((SignCombination.GATE_POS_IN_POS, True), (SignCombination.GATE_POS_IN_NEG, False)):
        text = f"glimpsed {unsealed}"
        said = Explanation(neuron=NEURON, combination=c, source="human", text=text, claims={}, evidence_hash="")
        add_explanation(engine, said, author="Ada", unsealed=unsealed)
    engine.dispose()
    with Index(str(db)) as index:
        for unsealed in (True, False):
            content = search_content(index, {"q": f"glimpsed {unsealed}"}, None)
            assert content["found"]
            (hit,) = content["found"]["hits"]
            assert hit["said"]
            assert hit["said"]["unsealed"] == unsealed
            assert ("may have seen test items" in search_page(content)) == unsealed
