"""A vector store for LangChain.

>>> from langchain_core.embeddings import DeterministicFakeEmbedding
>>> from spinney.langchain import SpinneyVectorStore
>>> texts = ["a red fox", "a grey seal"]
>>> documents = SpinneyVectorStore.from_texts(
...     texts, DeterministicFakeEmbedding(size=8), [{"legs": 4}, {"legs": 0}])
>>> [found.page_content for found in documents.similarity_search("a grey seal", k=1)]
['a grey seal']
>>> [found.page_content for found in documents.similarity_search("a grey seal", filter={"legs": 4})]
['a red fox']
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, Self, TypeAlias

import numpy as np

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as _error:
    raise ImportError(f"{_error}: pip install spinney[langchain]") from _error

import spinney
from spinney import _temporary

__all__ = ["Filter", "SpinneyVectorStore"]

Filter: TypeAlias = dict[str, Any] | Callable[[Document], object]
"""What documents are to be like: values of their metadata, or a function of a document."""

_LONGEST_KEY = 511
_LONGEST_LABEL = 200


class SpinneyVectorStore(VectorStore):  # type: ignore[misc, unused-ignore]
    """Documents in a collection of a store: those of one call are added together, or none of them.

    Args:
        embedding: makes vectors of texts.
        store: a store or the path of one, which is made if it is not there; without it, one in a
            temporary folder, which goes when this object does.
        collection: a collection of the store with text keys, or its name. If there is none of this
            name, it is made, with as many dimensions as ``embedding`` gives.
        metric: that of a collection to be made.

    Metadata has to be JSON. Its values that are text, numbers, booleans or ``None``, alone or in
    lists, are labels of the document too, 256 at most.

    **Filters.** ``filter={"lang": "en", "year": [2025, 2026]}`` admits documents whose ``lang`` is
    ``"en"``, and whose ``year`` is one of these; of a list in metadata, one value has to fit. Any
    other filter is a function of a ``Document``, which is called for each candidate: that is slow
    where it admits few.

    Further arguments of searches are those of ``spinney.Collection.search``: ``recall``, ``exact``,
    ``within``, ``timeout``.
    """

    def __init__(
        self,
        embedding: Embeddings,
        store: spinney.Store | str | PathLike[str] | None = None,
        collection: spinney.Collection | str = "langchain",
        *,
        metric: str = "cosine",
    ) -> None:
        if store is None:
            folder, _ = _temporary.folder_of(self)
            store = spinney.Store(folder / "store", durability="none")
        elif not isinstance(store, spinney.Store):
            store = spinney.Store(store)
        if isinstance(collection, str):
            if collection in store.collections():
                collection = store.collection(collection)
            else:
                dims = len(embedding.embed_query("how many dimensions?"))
                collection = store.collection(collection, dims, metric)
        self._embedding, self._store, self._collection = embedding, store, collection

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A vector store with these texts. ``kwargs`` are those of the constructor."""
        made = cls(embedding, **kwargs)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    @classmethod
    def from_existing(
        cls, path: str | PathLike[str], embedding: Embeddings, collection: str = "langchain"
    ) -> Self:
        """The vector store that was written at this path.

        Raises:
            spinney.StoreNotFoundError: if no store is there.
            spinney.NotFoundError: if it has no such collection.
        """
        store = spinney.Store(path, create=False)
        return cls(embedding, store, store.collection(collection))

    @property
    def embeddings(self) -> Embeddings:
        """What makes vectors of texts."""
        return self._embedding

    @property
    def store(self) -> spinney.Store:
        """The store beneath."""
        return self._store

    @property
    def collection(self) -> spinney.Collection:
        """The collection beneath."""
        return self._collection

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Adds texts in one transaction, in place of those of the same ids. Returns their ids.

        Where there is no id, one is made. Of texts with one id, the last stays.

        Raises:
            ValueError: if there are not as many metadatas or ids as texts.
            TypeError: if a metadata is no JSON.
        """
        _refuse(kwargs)
        texts = list(texts)
        metadatas = [{} for _ in texts] if metadatas is None else metadatas
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"{len(texts)} texts need as many {name}, got {len(values)}")
        payloads = [_payload(text, data) for text, data in zip(texts, metadatas, strict=True)]
        keys = [key or str(uuid.uuid4()) for key in ids or [None] * len(texts)]
        if texts:
            vectors = np.asarray(self._embedding.embed_documents(texts), np.float32)
            labels = [_labels(data) for data in metadatas]
            self._collection.put_many(keys, vectors, payloads, labels)
        return keys

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """As ``add_texts``. Where the argument ``ids`` is left out, documents may have ids."""
        ids = kwargs.pop("ids", None)
        return self.add_texts(
            [document.page_content for document in documents],
            [document.metadata for document in documents],
            ids=[document.id for document in documents] if ids is None else ids,
            **kwargs,
        )

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Deletes the documents of these ids, or all for ``None``, in one transaction.

        Ids that are not there are no error.
        """
        _refuse(kwargs)
        if ids is None:
            self._collection.delete_where(spinney.Labels.all())
            return True
        with self._store.write() as txn:
            for key in filter(_may_be_there, ids):
                txn.delete(self._collection, key)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in this order, without those that are not there."""
        with self._store.read() as snapshot:
            found = map(snapshot[self._collection].get, filter(_may_be_there, ids))
            return [_document(each.key, each.payload) for each in found if each is not None]

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any  # noqa: A002
    ) -> list[Document]:
        """The ``k`` documents nearest to a text, the nearest first."""
        return [found for found, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[Document]:
        """The ``k`` documents nearest to a vector, the nearest first."""
        found = self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any  # noqa: A002
    ) -> list[tuple[Document, float]]:
        """As ``similarity_search``, with distances: less is nearer, but for the metric "dot"."""
        embedding = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs)

    def similarity_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """As ``similarity_search_by_vector``, with distances."""
        with self._store.read() as snapshot:
            documents = snapshot[self._collection]
            found = self._search(documents, embedding, k, filter, kwargs)
        return [(_document(hit.key, hit.payload), hit.distance) for hit in found]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[Document]:
        """``k`` of the ``fetch_k`` nearest documents, near the text and unlike one another.

        ``lambda_mult`` is 1 for nearness alone, and 0 for difference alone.
        """
        embedding = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            embedding, k, fetch_k, lambda_mult, filter, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[Document]:
        """As ``max_marginal_relevance_search``, near a vector."""
        with self._store.read() as snapshot:
            documents = snapshot[self._collection]
            found = self._search(documents, embedding, fetch_k, filter, kwargs)
            # The nearest of several vectors is not known: the first stands for them.
            vectors = [documents.vectors(hit.key)[0] for hit in found]
        if not found:
            return []
        query = np.asarray(embedding, np.float32)
        chosen = maximal_marginal_relevance(query, vectors, lambda_mult, k)
        return [_document(found[i].key, found[i].payload) for i in chosen]

    def _search(
        self,
        documents: spinney.Collection,
        embedding: list[float],
        k: int,
        filter: Filter | None,  # noqa: A002
        how: dict[str, Any],
    ) -> list[spinney.DocumentHit]:
        if callable(filter):
            admits = filter

            def predicate(key: str) -> object:
                document = documents[key]
                return admits(_document(document.key, document.payload))

            how = how | {"predicate": predicate}
        elif filter is not None:
            how = how | {"labelled": _labelled(filter)}
        vector = np.asarray(embedding, np.float32)
        found: list[spinney.DocumentHit] = documents.search(vector, k, payload=True, **how)
        return found

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Makes 1 of what is nearest, and less of what is farther."""
        metric, dims = self._collection.metric, self._collection.dims
        scores: dict[str, Callable[[float], float]] = {
            "cosine": lambda distance: 1 - distance,
            "dot": lambda product: product,
            "hamming": lambda distance: 1 - distance / dims,
        }
        return scores.get(metric, lambda distance: 1 / (1 + distance))


def _may_be_there(key: Any) -> bool:
    """Whether there are keys like this. What is no text is left to the collection to refuse."""
    return not isinstance(key, str) or 0 < len(key.encode()) <= _LONGEST_KEY


def _refuse(unknown: dict[str, Any]) -> None:
    if unknown:
        raise TypeError(f"unknown arguments: {', '.join(unknown)}")


def _payload(text: str, metadata: dict[str, Any]) -> str:
    try:
        return json.dumps([text, metadata], ensure_ascii=False)
    except TypeError as error:
        raise TypeError(f"metadata has to be JSON: {error}") from None


def _document(key: Any, payload: bytes | None) -> Document:
    text, metadata = json.loads(payload or b"")
    return Document(id=key, page_content=text, metadata=metadata)


def _labels(metadata: dict[str, Any]) -> list[str]:
    labels = []
    for field, value in metadata.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        labels += [_label(field, each) for each in values if _is_plain(each)]
    return labels


def _labelled(filter: dict[str, Any]) -> spinney.Labels:  # noqa: A002
    fields = []
    for field, value in filter.items():
        values = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        other = [each for each in values if not _is_plain(each)]
        if other:
            raise TypeError(
                f"filters compare text, numbers, booleans and None, got {other[0]!r} for "
                f"{field!r}: pass a function of a Document instead"
            )
        fields.append(spinney.Labels.any(*(_label(field, each) for each in values)))
    return spinney.Labels.all(*fields)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _label(field: str, value: Any) -> str:
    """The label of documents whose ``field`` has this value."""
    if isinstance(value, float) and value.is_integer():
        # As in Python, 1.0 equals 1.
        value = int(value)
    label = f"{field}={json.dumps(value, ensure_ascii=False)}"
    if len(label.encode()) <= _LONGEST_LABEL:
        return label
    # Labels of values have a "=", so that this is none of them.
    return f"sha256:{hashlib.sha256(label.encode()).hexdigest()}"
