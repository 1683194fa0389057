"""The vector store for LangChain: its conformance suite, and what that leaves open.

Run in an environment with ``langchain-tests``; docs/python.md says how.
"""

from __future__ import annotations

import asyncio
import doctest
import gc
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings  # noqa: E402
from langchain_core.vectorstores.utils import maximal_marginal_relevance  # noqa: E402
from langchain_tests.integration_tests import VectorStoreIntegrationTests  # noqa: E402

import spinney  # noqa: E402
from spinney.langchain import SpinneyVectorStore  # noqa: E402


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:.*not an async function")
class TestConformance(VectorStoreIntegrationTests):
    @pytest.fixture(params=["cosine", "euclidean"])
    def vectorstore(self, request, tmp_path):
        return SpinneyVectorStore(self.get_embeddings(), tmp_path / "store", metric=request.param)


class Numbers(Embeddings):
    """The vector of a text is the text itself: numbers with blanks between them."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(word) for word in text.split()] if text[-1].isdigit() else [0.0, 0.0]


@pytest.fixture
def numbers(tmp_path) -> SpinneyVectorStore:
    texts = ["1 0", "2 0", "3 0", "4 0", "5 0"]
    metadatas = [
        {"lang": "en", "year": 2024, "tags": ["a", "b"]},
        {"lang": "de", "year": 2025.0, "tags": []},
        {"lang": "en", "year": 2026, "tags": ["b"], "draft": True},
        {"lang": None, "deep": {"x": 1}},
        {},
    ]
    return SpinneyVectorStore.from_texts(texts, Numbers(), metadatas, ids=list("vwxyz"),
                                         store=tmp_path / "numbers", metric="euclidean")


def ids(found: list[Document]) -> str:
    return "".join(document.id for document in found)


@pytest.mark.parametrize(("filter", "expected"), [
    (None, "vwxyz"),
    ({}, "vwxyz"),
    ({"lang": "en"}, "vx"),
    ({"lang": ["en", "de"]}, "vwx"),
    ({"lang": ("en", None)}, "vxy"),
    ({"lang": "en", "year": [2025, 2026]}, "x"),
    ({"year": 2025}, "w"),
    ({"year": 2024.0}, "v"),
    ({"tags": "b"}, "vx"),
    ({"tags": {"a", "c"}}, "v"),
    ({"draft": True}, "x"),
    ({"draft": 1}, ""),
    ({"lang": []}, ""),
    ({"unknown": "en"}, ""),
    (lambda document: document.metadata.get("year", 0) > 2024, "wx"),
    (lambda document: document.page_content > "3" and document.id != "z", "xy"),
])
def test_filters(numbers, filter, expected):
    assert ids(numbers.similarity_search("0 0", 9, filter=filter)) == expected
    assert ids(numbers.similarity_search_by_vector([0.0, 0.0], 9, filter)) == expected
    scored = numbers.similarity_search_with_score("0 0", 9, filter)
    assert [score for _, score in scored] == ["_vwxyz".index(key) for key in expected]
    if expected:
        assert ids(numbers.as_retriever(search_kwargs={"filter": filter, "k": 1}).invoke("0 0")) \
            == expected[0]
        assert set(ids(numbers.max_marginal_relevance_search("1 1", 9, filter=filter))) \
            == set(expected)


def test_filters_and_metadata_that_cannot_be(numbers):
    with pytest.raises(TypeError, match="function"):
        numbers.similarity_search("0 0", filter={"deep": {"x": 1}})
    with pytest.raises(TypeError, match="JSON"):
        numbers.add_texts(["6 0"], [{"x": object()}])
    with pytest.raises(ZeroDivisionError):
        numbers.similarity_search("0 0", filter=lambda document: 1 / 0)
    with pytest.raises(ValueError, match="metadatas"):
        numbers.add_texts(["6 0"], [{}, {}])
    with pytest.raises(ValueError, match="ids"):
        numbers.add_texts(["6 0"], ids=["1", "2"])
    with pytest.raises(TypeError):
        numbers.add_texts(["6 0"], unknown=1)
    with pytest.raises(TypeError):
        numbers.similarity_search("0 0", unknown=1)
    assert len(numbers.collection) == 5


def test_long_values_are_labels_too(numbers):
    for n, text in enumerate(["x" * 300, "x" * 301, "ü" * 99, 'a"=b']):
        numbers.add_texts([f"{n} 9"], [{"long": text, 'k"=': text}], ids=[f"long{n}"])
        assert [found.id for found in numbers.similarity_search("0 0", filter={"long": text})] \
            == [f"long{n}"]
        assert [found.id for found in numbers.similarity_search("0 0", filter={'k"=': text})] \
            == [f"long{n}"]


def test_changes_are_all_or_none(numbers):
    with pytest.raises(ValueError):
        numbers.add_texts(["6 0", "7 0 0"], ids=["6", "7"])
    with pytest.raises(TypeError):
        numbers.delete(["v", 3])
    assert ids(numbers.get_by_ids(["z", "6", "v", "v"])) == "zvv"
    assert numbers.add_texts([]) == []
    assert numbers.add_texts(["7 7", "8 8"], ids=["s", "s"]) == ["s", "s"]
    assert numbers.get_by_ids(["s"])[0].page_content == "8 8"
    made = numbers.add_documents([Document("9 9", id="own"), Document("9 8")])
    assert made[0] == "own" and len(made[1]) == 36
    assert numbers.delete(["own", "never"]) and not numbers.get_by_ids(["own"])
    assert numbers.delete() and len(numbers.collection) == 0


@pytest.mark.filterwarnings("ignore:Relevance scores must be between 0 and 1")
@pytest.mark.parametrize("metric", spinney.METRICS)
def test_scores(tmp_path, metric):
    rng = np.random.default_rng(9)
    rows = rng.integers(0, 2, (40, 2)) + (rng.random((40, 2)) if metric != "hamming" else 0)
    texts = [f"{x} {y}" for x, y in rows]
    found = SpinneyVectorStore.from_texts(texts, Numbers(), store=tmp_path / metric, metric=metric)
    scored = found.similarity_search_with_score(texts[0], 10)
    relevant = found.similarity_search_with_relevance_scores(texts[0], 10)
    scores = [score for _, score in relevant]
    assert [document.id for document, _ in scored] == [document.id for document, _ in relevant]
    assert scores == sorted(scores, reverse=True)
    if metric == "dot":
        assert scores[0] == pytest.approx(max(float(row @ rows[0]) for row in rows), rel=1e-5)
    else:
        assert scores[0] == pytest.approx(1, abs=1e-6) and min(scores) >= 0
    best = found.similarity_search_with_relevance_scores(texts[0], 40, score_threshold=0.9)
    assert best and all(score >= 0.9 for _, score in best)


def test_marginal_relevance_is_that_of_langchain(tmp_path):
    embedding = DeterministicFakeEmbedding(size=8)
    texts = [f"text {n}" for n in range(60)]
    found = SpinneyVectorStore.from_texts(texts, embedding, store=tmp_path / "mmr", ids=texts)
    query = embedding.embed_query("what")
    for weight in (0.0, 0.3, 1.0):
        near = found.similarity_search("what", 20, recall=1.0)
        vectors = embedding.embed_documents([document.page_content for document in near])
        chosen = maximal_marginal_relevance(np.array(query), vectors, weight, 5)
        expected = [near[i].id for i in chosen]
        how = {"k": 5, "fetch_k": 20, "lambda_mult": weight, "recall": 1.0}
        assert [d.id for d in found.max_marginal_relevance_search("what", **how)] == expected
        by_vector = found.max_marginal_relevance_search_by_vector(query, **how)
        assert [d.id for d in by_vector] == expected
    assert found.delete() and found.max_marginal_relevance_search("what") == []


def test_twins_for_asyncio(numbers):
    async def calls() -> None:
        assert ids(await numbers.asimilarity_search("0 0", 2)) == "vw"
        assert ids(await numbers.asimilarity_search("0 0", 2, filter={"lang": "en"})) == "vx"
        assert ids(await numbers.asimilarity_search_by_vector([9.0, 0.0], 1)) == "z"
        assert (await numbers.asimilarity_search_with_score("0 0", 1))[0][1] == 1.0
        assert len(await numbers.amax_marginal_relevance_search("1 0", 3)) == 3
        assert ids(await numbers.aget_by_ids(["w"])) == "w"
        assert await numbers.aadd_texts(["6 0"], ids=["t"]) == ["t"]
        assert await numbers.aadd_documents([Document("7 0", id="u")]) == ["u"]
        assert await numbers.adelete(["t", "u", "v"])
        made = await SpinneyVectorStore.afrom_texts(["1 1"], Numbers(), metric="euclidean")
        assert (await made.asimilarity_search("0 0"))[0].page_content == "1 1"
        many = await asyncio.gather(*(numbers.asimilarity_search("0 0", 1) for _ in range(20)))
        assert {ids(one) for one in many} == {"w"}

    asyncio.run(calls())


def test_ids_that_no_document_can_have_are_not_there(numbers):
    for never in ("", "x" * 512, "ü" * 256):
        assert ids(numbers.get_by_ids([never, "v"])) == "v"
        assert numbers.delete([never])
    with pytest.raises(spinney.InvalidOptionError):
        numbers.add_texts(["6 0"], ids=["x" * 512])
    assert numbers.add_texts(["6 0"], ids=["x" * 511]) and len(numbers.collection) == 6
    assert numbers.delete(["x" * 511]) and len(numbers.collection) == 5


def test_existing_stores(numbers, tmp_path):
    path = numbers.store.path
    again = SpinneyVectorStore.from_existing(path, Numbers())
    assert ids(again.similarity_search("0 0", 1)) == "v" and again.embeddings is not None
    tenant = SpinneyVectorStore(Numbers(), path, numbers.collection.scoped("lang=\"en\""))
    assert ids(tenant.similarity_search("0 0", 9)) == "vx"
    assert tenant.delete() and len(numbers.collection) == 3
    assert SpinneyVectorStore(Numbers(), numbers.store).collection.metric == "euclidean"
    with pytest.raises(spinney.StoreNotFoundError):
        SpinneyVectorStore.from_existing(tmp_path / "none", Numbers())
    with pytest.raises(spinney.NotFoundError):
        SpinneyVectorStore.from_existing(path, Numbers(), "none")
    copy = pickle.loads(pickle.dumps(again))
    assert ids(copy.similarity_search("0 0", 1)) == "w"


def test_a_temporary_store_goes_with_its_vector_store(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = SpinneyVectorStore.from_documents([Document("1 2")], Numbers(), metric="euclidean")
    assert len(list(tmp_path.iterdir())) == 1 and isinstance(found.store.path, Path)
    del found
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_doctests():
    failed, tried = doctest.testmod(sys.modules[SpinneyVectorStore.__module__])
    assert tried and not failed
