"""What the search of the server's pages shows of the neurons that it found."""

from __future__ import annotations

import shutil
from pathlib import Path

from neuronagent.domain import Explanation, NeuronId, SignCombination
from neuronagent.service.lookup import Index
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
