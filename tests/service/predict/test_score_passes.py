"""Texts are scored document by document, and tables have a row for every key that will be asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.domain import Split
from neuronagent.service.predict.activations import make_batch, plan_batches
from neuronagent.service.predict.score_passes import keys_at, wanted_keys
from neuronagent.service.predict.texts import TokenText, TokenTexts


def made(lengths: list[int], documents: list[int], first: int) -> TokenTexts:
    generator = np.random.default_rng(len(lengths))
    texts = tuple(
        TokenText(ids=generator.integers(0, 40, length + first), document=document, split=Split.TEST)
        for length, document in zip(lengths, documents, strict=False)
    )
    return TokenTexts(texts=texts, source="made", own=False, first=first, max_tokens=64)


texts = st.builds(
    made,
    st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any),
    st.lists(st.integers(0, 4), min_size=12, max_size=12),
    st.integers(0, 1),
)


@given(texts=texts, batch_tokens=st.sampled_from([1, 16, 64, 1000]))
def test_documents_follow_each_other_and_every_token_is_in_one_batch(texts: TokenTexts, batch_tokens: int) -> None:
    batches = plan_batches(texts, batch_tokens, by_document=True)
    places = [place for batch in batches for place in batch.tolist()]
    assert sorted(places) == [n for n, text in enumerate(texts.texts) if len(text.ids) > texts.first]
    seen = np.concatenate([make_batch(texts, batch).places.documents for batch in batches])
    runs = seen[np.flatnonzero(np.diff(seen, prepend=seen[0] - 1))]
    assert len(runs) == len(set(runs.tolist()))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(texts.texts[p].ids) for p in batch) <= batch_tokens


@given(texts=texts, context=st.none() | st.integers(1, 4))
def test_every_key_of_the_scored_text_has_a_row(texts: TokenTexts, context: int | None) -> None:
    wanted = wanted_keys(texts)
    batch = make_batch(texts, np.concatenate(plan_batches(texts, 1000)), context)
    for name, keys in keys_at(batch.places).items():
        assert (wanted[name].places(keys) < len(wanted[name])).all(), name
        assert set(wanted[name].wanted.tolist()) <= {*keys.tolist(), -1, *range(64)}
