"""`post` of whole layers at the tokens of texts is what the model computes there, however it is batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import Split
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.service.lookup import open_index
from neuronagent.service.predict.activations import activations, plan_batches
from neuronagent.service.predict.texts import TokenText, TokenTexts, corpus_texts, source_texts
from tests import planted
from tests.known_index import world

LAYERS = range(planted.LAYERS)


@pytest.fixture(scope="module")
def model() -> GatedModel:
    return load_model(str(world().model.folder), dtype="float32", device="cpu")


def made(lengths: list[int], first: int = 1) -> TokenTexts:
    generator = np.random.default_rng(0)
    texts = tuple(
        TokenText(
            ids=np.array([0, *generator.integers(2, len(planted.TOKENS), length)])[1 - first :],
            document=place // 2,
            split=Split.TEST,
        )
        for place, length in enumerate(lengths)
    )
    return TokenTexts(texts=texts, source="made", own=False, first=first, max_tokens=64)


def expected(texts: TokenTexts, context: int | None = None) -> dict[tuple[int, int], NDArray[np.float64]]:
    """By (text, position): post of all layers `[layers, neurons]`, one text or window at a time, in float64."""
    found: dict[tuple[int, int], NDArray[np.float64]] = {}
    for place, text in enumerate(texts.texts):
        for position in range(texts.first, len(text.ids)):
            start = 0 if context is None else max(texts.first, position + 1 - context)
            ids = text.ids[start : position + 1].tolist()
            if context is not None:
                ids = [*text.ids[: texts.first].tolist(), *ids]
            gate, into = world().model.pre_activations(ids)
            found[place, position] = (gate / (1 + np.exp(-gate)) * into)[:, -1]
    return found


def check(model: GatedModel, texts: TokenTexts, context: int | None, batch_tokens: int) -> None:
    wanted = expected(texts, context)
    seen: set[tuple[int, int]] = set()
    for batch in activations(model, texts, LAYERS, context=context, batch_tokens=batch_tokens):
        post = torch.stack([batch.post[layer] for layer in LAYERS], dim=1).numpy()
        for row, place in enumerate(zip(batch.places.texts.tolist(), batch.places.positions.tolist(), strict=True)):
            assert place not in seen
            seen.add(place)
            assert np.allclose(post[row], wanted[place], atol=1e-5, rtol=1e-4)
            text, position = texts.texts[place[0]], place[1]
            assert batch.places.ids[row] == text.ids[position]
            assert batch.places.previous[row] == (text.ids[position - 1] if position else -1)
            assert batch.places.documents[row] == text.document
    assert seen == wanted.keys()


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    first=st.integers(0, 1),
    context=st.none() | st.integers(1, 6),
    batch_tokens=st.sampled_from([1, 7, 16, 1000]),
)
def test_every_token_is_seen_once_with_the_models_values_whatever_the_batches(
    model: GatedModel, lengths: list[int], first: int, context: int | None, batch_tokens: int
) -> None:
    check(model, made(lengths, first), context, batch_tokens)


def test_only_the_wanted_layers_are_given_and_batches_continue_where_they_were_left(model: GatedModel) -> None:
    texts = made([5, 3, 8, 2])
    batches = plan_batches(texts, 10)
    whole = [batch.post[0] for batch in activations(model, texts, [0], batch_tokens=10)]
    rest = list(activations(model, texts, [0], batches=batches[1:], batch_tokens=10))
    assert [*rest[0].post] == [0]
    assert all(torch.equal(a, b.post[0]) for a, b in zip(whole[1:], rest, strict=True))


def test_texts_of_the_index_and_of_its_source_are_the_same_with_the_same_splits(model: GatedModel) -> None:
    with open_index(str(world().db)) as index:
        own = corpus_texts(index)
        read = source_texts(index, model, str(world().source))
    assert [text.ids.tolist() for text in own.texts] == [text.ids.tolist() for text in read.texts]
    assert [text.split for text in own.texts] == [text.split for text in read.texts]
    assert own.tokens == sum(own.of(split).tokens for split in Split)
    assert own.fingerprint == read.fingerprint
    assert own.fingerprint != own.limited(own.tokens // 2).fingerprint


def test_a_source_is_read_up_to_so_many_tokens(model: GatedModel) -> None:
    with open_index(str(world().db)) as index:
        some = source_texts(index, model, str(world().source), tokens=101)
    assert some.tokens == 101
