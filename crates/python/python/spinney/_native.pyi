"""Types of the native module, and what its calls take, return and raise."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, Unpack, final, overload

import numpy as np
from numpy.typing import NDArray

from spinney._annoy_native import (
    AnnoyIndex,
    _annoy_add,
    _annoy_file,
    _annoy_from_bytes,
    _annoy_ids,
    _annoy_rows,
    _annoy_seed,
    _annoy_to_bytes,
)
from spinney._records import (
    AuditEntry, Backup, BuildStats, Document, DocumentHit, Searched, StoreStats,
)
from spinney._types import (
    Allowed,
    BuildOptions,
    Filter,
    How,
    HowDocumentPages,
    HowDocuments,
    HowPages,
    Ids,
    Key,
    Metric,
    Progress,
    Storage,
    StrPath,
)

__all__ = [
    "AnnoyIndex",
    "Collection",
    "Hits",
    "IdSet",
    "Index",
    "Labels",
    "Snapshot",
    "Stop",
    "Store",
    "WriteTxn",
    "__version__",
    "_annoy_add",
    "_annoy_file",
    "_annoy_from_bytes",
    "_annoy_ids",
    "_annoy_rows",
    "_annoy_seed",
    "_annoy_to_bytes",
    "_open_collection",
    "_open_index",
    "_reopen",
]
__version__: str

@final
class Stop:
    """Ends the searches that it was given to as ``stop``. They return what they have."""

    def __new__(cls) -> Self: ...
    def set(self) -> None:
        """Ends the searches now."""

@final
class IdSet:
    """A set of ids: a Roaring bitmap, which cannot be changed."""

    def __new__(cls, ids: Allowed | None = None, /) -> Self: ...
    @staticmethod
    def from_bytes(data: bytes) -> IdSet:
        """The set that ``to_bytes`` or another Roaring library wrote, in the portable format."""
    def to_bytes(self) -> bytes:
        """The set in the portable format of Roaring bitmaps."""
    def to_array(self) -> NDArray[np.int64]:
        """The ids in ascending order: int64, (len,)."""
    def __len__(self) -> int: ...
    def __contains__(self, id: object, /) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __and__(self, other: Allowed, /) -> IdSet: ...
    def __rand__(self, other: Allowed, /) -> IdSet: ...
    def __or__(self, other: Allowed, /) -> IdSet: ...
    def __ror__(self, other: Allowed, /) -> IdSet: ...
    def __sub__(self, other: Allowed, /) -> IdSet: ...
    def __rsub__(self, other: Allowed, /) -> IdSet: ...
    def __xor__(self, other: Allowed, /) -> IdSet: ...
    def __rxor__(self, other: Allowed, /) -> IdSet: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> Any: ...

@final
class Labels:
    """Documents by the labels that they bear. A string is those that bear it."""

    def __new__(cls, label: Filter) -> Self: ...
    @staticmethod
    def all(*filters: Filter) -> Labels:
        """Documents that all of these mean; of none, all documents."""
    @staticmethod
    def any(*filters: Filter) -> Labels:
        """Documents that at least one of these means; of none, no document."""
    @staticmethod
    def not_(filter: Filter) -> Labels:
        """Documents that this does not mean."""
    def __and__(self, other: Filter, /) -> Labels: ...
    def __rand__(self, other: Filter, /) -> Labels: ...
    def __or__(self, other: Filter, /) -> Labels: ...
    def __ror__(self, other: Filter, /) -> Labels: ...
    def __invert__(self) -> Labels: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Hits:
    """The hits of a search. ``ids, distances = hits`` works; ``len`` is that of ``ids``.

    For one query, arrays have one axis and no padding. For n queries they are (n, min(k, len)):
    where there is no hit, the id is -1 and the distance NaN.
    """

    def __new__(
        cls, ids: NDArray[np.int64], distances: NDArray[np.float32], counts: Sequence[int],
        is_partial: bool,
    ) -> Self: ...
    @property
    def ids(self) -> NDArray[np.int64]: ...
    @property
    def distances(self) -> NDArray[np.float32]: ...
    @property
    def counts(self) -> NDArray[np.int64]:
        """How many hits each search has."""
    @property
    def is_partial(self) -> bool:
        """Whether a search was stopped before it was done."""
    @property
    def report(self) -> Searched | None:
        """What the searches did, if ``report=True`` asked for it."""
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __reduce__(self) -> Any: ...

@final
class Store:
    """A file of indexes and collections. A context manager that closes it.

    Args:
        path: a folder, or a file if ``single_file``. It is made if it is not there.
        map_size: the largest size in bytes; 1 TiB by default, which takes no room.
        read_only: for reading alone. Others may write meanwhile.
        sealed: a file that nobody writes, opened without a lock file.
        create: whether a store that is not there is made.
        threads: how many share batches and builds; all by default.
        max_readers: read transactions at once, in all processes.
        durability: "full"; "lose-last": a crash of the system may take back the last commit;
            "none": it may destroy the file.

    Raises:
        StoreNotFoundError: if nothing is there and ``create`` is false.
        CorruptedError: if the file was cut.
        MismatchError: if it is open in this process with other options.
    """

    def __new__(
        cls,
        path: StrPath,
        *,
        map_size: int | None = None,
        read_only: bool = False,
        sealed: bool = False,
        single_file: bool = False,
        create: bool = True,
        threads: int | None = None,
        max_readers: int = 1024,
        durability: Literal["full", "lose-last", "none"] = "full",
    ) -> Self: ...
    def index(
        self, name: str, dims: int | None = None, metric: Metric | str | None = None, *,
        storage: Storage | str | None = None,
    ) -> Index:
        """The index of this name, made if it is not there and ``dims`` and ``metric`` are given.

        Raises:
            NotFoundError: if it is not there and ``dims`` is not given.
            MismatchError: if it was made with other dimensions, metric or storage.
        """
    def collection(
        self, name: str, dims: int | None = None, metric: Metric | str | None = None, *,
        storage: Storage | str | None = None, keys: Literal["str", "int", "bytes"] | str = "str",
    ) -> Collection:
        """The collection of this name, made as ``index`` makes an index.

        ``keys`` says what keys are: text, numbers from 0 to 2**64 - 1, or bytes.
        """
    def indexes(self) -> list[str]:
        """The names of all indexes."""
    def collections(self) -> list[str]:
        """The names of all collections."""
    def drop(self, name: str) -> bool:
        """Deletes the index or collection of this name. Whether it was there."""
    def rename(self, name: str, new_name: str) -> None:
        """Gives an index or a collection another name."""
    def set_build_after(self, name: str, pending: int | None) -> None:
        """After how many pending items a commit builds (200); ``None`` for never."""
    def write(self, *, timeout: float | None = None) -> WriteTxn:
        """Begins the write transaction. There is one at a time: others wait.

        Raises:
            BusyError: after ``timeout`` seconds, and in a thread that has one.
        """
    def read(self) -> Snapshot:
        """The newest commit, for as long as it is held."""
    def backup(self, path: StrPath, *, compact: bool = False, overwrite: bool = False) -> Backup:
        """Writes a copy to a file, while others read and write."""
    @staticmethod
    def restore(backup: StrPath, path: StrPath, *, single_file: bool = False) -> Store:
        """Makes a store of a backup at a path where nothing is, and opens it."""
    def verify(self) -> list[str]:
        """What is wrong with the store, in words; nothing if it is sound. Reads all of it."""
    def repair(
        self, name: str, dims: int, metric: Metric | str, *, storage: Storage | str | None = None,
    ) -> tuple[list[int], list[bytes]]:
        """Rebuilds a damaged index or collection from what can be read.

        Returns the ids of vectors and the keys of documents that were lost.
        """
    def warm(self, max_item_bytes: int = ...) -> int:
        """Reads nodes, and vectors up to so many bytes, into memory. Returns the bytes read."""
    def stats(self) -> StoreStats:
        """Figures of the newest commit, and of the readers of this process."""
    def acting_as(self, actor: str) -> Store:
        """The same store, whose commits bear this name in the audit log."""
    def set_audit(self, yes: bool) -> None:
        """Whether each commit notes who wrote, when, and what."""
    @property
    def is_audited(self) -> bool: ...
    def audit_log(self, first: int = 1) -> list[AuditEntry]:
        """The entries of the audit log from this number on."""
    def trim_audit(self, older_than: float) -> int:
        """Deletes entries older than so many seconds. Returns how many."""
    def close(self) -> None:
        """Closes the store. What was made from it raises ``ClosedError`` from then on.

        A search that another thread is in goes on, and the file is open until it ends.

        Raises:
            ClosedError: while snapshots or a transaction are open.
        """
    @property
    def closed(self) -> bool: ...
    @property
    def path(self) -> Path: ...
    @property
    def last_txn_id(self) -> int:
        """LMDB's number of the newest commit."""
    def __enter__(self) -> Self: ...
    def __exit__(self, raised: object, *_rest: object) -> None: ...
    def __reduce__(self) -> Any: ...

@final
class Index:
    """Vectors under ids: a handle, which reads the newest commit, or that of a snapshot.

    It can be pickled, by path and name.
    """

    @property
    def name(self) -> str: ...
    @property
    def dims(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def storage(self) -> str:
        """How vectors are stored: "f32", "f16", "i8" or "bits"."""
    @property
    def pending(self) -> int:
        """Items that wait for a build. They are found, too."""
    def __len__(self) -> int: ...
    def __contains__(self, id: object, /) -> bool: ...
    def __iter__(self) -> Iterator[int]:
        """The ids of all items, in order."""
    def ids(self) -> IdSet:
        """The ids of all items."""
    def __getitem__(self, ids: Ids, /) -> NDArray[np.float32]:
        """The vector of an item, (dims,), or those of several, (n, dims).

        Raises:
            NotFoundError: for an id that is no item.
        """
    def search(self, queries: Any, k: int | None = None, **how: Unpack[How]) -> Hits:
        """The ``k`` (10) items nearest to each query.

        Args:
            queries: (dims,) or (n, dims), of any real dtype and layout.

        Raises:
            InvalidVectorError: for a wrong length, or a number that is not finite.
        """
    def search_items(self, ids: Ids, k: int | None = None, **how: Unpack[How]) -> Hits:
        """The items nearest to each of these items, which is left out. Unknown ids have none."""
    def search_any(self, examples: Iterable[Any], k: int | None = None, **how: Unpack[How]) -> Hits:
        """The items nearest to any of these ids and vectors."""
    def search_like(
        self, positive: Iterable[Any], negative: Iterable[Any] | None = None, k: int | None = None,
        **how: Unpack[How],
    ) -> Hits:
        """The items like the positive examples and unlike the negative ones: ids and vectors."""
    def pages(self, query: Any, page: int = 10, **how: Unpack[HowPages]) -> Iterator[Hits]:
        """Pages of hits, the nearest first, each item once, of the commit at the call.

        When its hits have run out, a new search finds twice as many: all pages together take about
        as long as two searches for as many hits. It holds its commit until it ends or goes away.
        """
    def neighbours(self, query: Any, **how: Unpack[HowPages]) -> Iterator[tuple[int, float]]:
        """Neighbours one by one, (id, distance), as ``pages`` finds them."""
    def add(
        self, ids: Ids | None, vectors: Any, *, build: bool = True,
        progress: Progress | None = None, packed: bool = False,
    ) -> NDArray[np.int64]:
        """Adds or overwrites items in a transaction of its own. Returns their ids.

        Args:
            ids: (n,), or ``None`` for those after the highest.
            vectors: (n, dims).
            build: builds before the commit. Without it, the store does when much has changed: see
                ``Store.set_build_after``.
            progress: called with the phase, and the steps done and to do, while the build waits.
                ``False`` or an exception ends the build, and nothing is written. It must not write
                to the store.
        """
    def delete(self, ids: Ids) -> int:
        """Deletes items in a transaction of its own. Returns how many were there."""
    def build(self, *, progress: Progress | None = None, **options: Unpack[BuildOptions]) -> BuildStats:
        """Builds what has changed, in a transaction of its own: makes searches fast."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> Any: ...

@final
class Collection:
    """Documents under keys: a handle, which reads the newest commit, or that of a snapshot.

    It can be pickled, by path, name and scope.
    """

    @property
    def name(self) -> str: ...
    @property
    def dims(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def scope(self) -> tuple[str, ...]:
        """The labels that all documents in sight bear."""
    def scoped(self, label: str) -> Collection:
        """A view in which nothing but documents with this label can be read or changed."""
    def __len__(self) -> int: ...
    def __contains__(self, key: Key, /) -> bool: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getitem__(self, key: Key, /) -> Document:
        """The document of this key, or ``NotFoundError``."""
    def get(self, key: Key) -> Document | None:
        """The document of this key, or ``None``."""
    def get_many(self, keys: Iterable[Key]) -> list[Document | None]:
        """The documents of these keys, with ``None`` for those that are not there."""
    def vectors(self, key: Key) -> NDArray[np.float32]:
        """The vectors of a document: (n, dims)."""
    def keys(self, prefix: str | bytes | None = None) -> list[Any]:
        """The keys in order, those that begin with ``prefix``."""
    def documents(self, prefix: str | bytes | None = None) -> Iterator[Document]:
        """The documents in the order of their keys, of the commit at the call."""
    def count(self, filter: Filter) -> int:
        """How many documents a filter means."""
    def labels(self) -> dict[str, int]:
        """All labels, with the number of documents that bear each."""
    def put(
        self, key: Key, vector: Any, payload: Any = None, labels: Iterable[str] | None = None,
    ) -> None:
        """Puts a document in a transaction of its own, in place of one of this key.

        Args:
            vector: (dims,), or (n, dims) for several vectors.
            payload: bytes, text, or a value that is kept as JSON.
        """
    def put_many(
        self, keys: Iterable[Key], vectors: Any, payloads: Iterable[Any] | None = None,
        labels: Iterable[Iterable[str]] | None = None,
    ) -> None:
        """Puts documents in one transaction: all or none."""
    def delete(self, key: Key) -> bool:
        """Deletes a document. Whether it was there."""
    def delete_where(self, filter: Filter) -> int:
        """Deletes the documents that a filter means. Returns how many."""
    def build(self, *, progress: Progress | None = None, **options: Unpack[BuildOptions]) -> BuildStats:
        """Builds what has changed: makes searches fast."""
    def search(self, queries: Any, k: int | None = None, **how: Unpack[HowDocuments]) -> Any:
        """The ``k`` (10) documents nearest to a query, or a list of them for each row.

        Each document counts once, by its nearest vector.
        """
    def search_key(self, key: Key, k: int | None = None, **how: Unpack[HowDocuments]) -> list[DocumentHit]:
        """The documents nearest to that of a key, which is left out."""
    def search_any(
        self, examples: Iterable[Any], k: int | None = None, **how: Unpack[HowDocuments],
    ) -> list[DocumentHit]:
        """The documents nearest to any of these keys and vectors."""
    def search_like(
        self, positive: Iterable[Any], negative: Iterable[Any] | None = None, k: int | None = None,
        **how: Unpack[HowDocuments],
    ) -> list[DocumentHit]:
        """The documents like the positive examples and unlike the negative ones."""
    def pages(
        self, query: Any, page: int = 10, **how: Unpack[HowDocumentPages],
    ) -> Iterator[list[DocumentHit]]:
        """Pages of documents, the nearest first, as ``Index.pages``."""
    def neighbours(self, query: Any, **how: Unpack[HowDocumentPages]) -> Iterator[DocumentHit]:
        """Documents one by one, the nearest first, as ``pages`` finds them."""
    def __reduce__(self) -> Any: ...

@final
class Snapshot:
    """All indexes and collections as they were at one commit. A context manager."""

    @overload
    def __getitem__(self, of: Index, /) -> Index: ...
    @overload
    def __getitem__(self, of: Collection, /) -> Collection: ...
    @property
    def txn_id(self) -> int:
        """LMDB's number of the commit."""
    @property
    def age(self) -> float:
        """For how many seconds it has kept pages from being used again."""
    def close(self) -> None:
        """Lets the commit go."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *_raised: object) -> None: ...
    def __reduce__(self) -> Any: ...

@final
class WriteTxn:
    """The write transaction. A context manager that commits, or aborts on an exception.

    Any thread may call it. Each call costs some microseconds more than in a transaction of Rust,
    because LMDB's lock belongs to a thread of its own.
    """

    def add(self, index: Index, ids: Ids | None, vectors: Any, *, packed: bool = False) -> NDArray[np.int64]:
        """As ``Index.add``, without a build."""
    @overload
    def delete(self, of: Index, ids: Ids) -> int: ...
    @overload
    def delete(self, of: Collection, ids: Key) -> int: ...
    def clear(self, index: Index) -> None:
        """Deletes all items of an index."""
    def build(
        self, of: Index | Collection, *, progress: Progress | None = None, **options: Unpack[BuildOptions],
    ) -> BuildStats:
        """As ``Index.build``. One that is cancelled leaves the transaction as it was."""
    def calibrate(self, index: Index, queries: Any) -> bool:
        """Measures recall on queries like those to come, for which ``recall`` then holds."""
    def convert(self, index: Index, storage: Storage | str) -> int:
        """Stores the vectors of an index in another way. Returns how many were changed."""
    def put(
        self, collection: Collection, key: Key, vector: Any, payload: Any = None,
        labels: Iterable[str] | None = None,
    ) -> None:
        """As ``Collection.put``."""
    def put_many(
        self, collection: Collection, keys: Iterable[Key], vectors: Any,
        payloads: Iterable[Any] | None = None, labels: Iterable[Iterable[str]] | None = None,
    ) -> None:
        """As ``Collection.put_many``."""
    def delete_where(self, collection: Collection, filter: Filter) -> int:
        """As ``Collection.delete_where``."""
    def search(self, index: Index, queries: Any, k: int | None = None, **how: Unpack[How]) -> Hits:
        """As ``Index.search``, of what was written so far."""
    def len(self, index: Index) -> int:
        """How many items an index has in this transaction."""
    def set_actor(self, actor: str) -> None:
        """The name that the audit log gives to who writes."""
    def commit(self) -> None:
        """Commits. Indexes with many pending items are built before."""
    def abort(self) -> None:
        """Undoes all."""
    def __enter__(self) -> Self: ...
    def __exit__(self, raised: object, *_rest: object) -> None: ...
    def __reduce__(self) -> Any: ...

def _reopen(path: StrPath, options: Mapping[str, Any]) -> Store: ...
def _open_index(store: Store, name: str) -> Index: ...
def _open_collection(store: Store, name: str, keys: str, scope: Sequence[str]) -> Collection: ...
