"""The store for programs on asyncio: nothing here blocks the event loop.

Searches and writes run on threads of the store. A task that is cancelled stops its search. A search
of one vector takes some tens of microseconds, about as long as handing it to a thread: where that
is all, call ``spinney.Index.search`` directly.

>>> import asyncio, numpy as np, tempfile
>>> import spinney.aio
>>> async def main() -> list[int]:
...     async with spinney.aio.open(tempfile.mkdtemp()) as store:
...         docs = await store.index("docs", dims=2, metric="euclidean")
...         async with store.write() as txn:
...             await txn.add(docs, [7, 8], np.array([[0, 0], [3, 4]], "f4"))
...         hits = await docs.search(np.array([3, 3], "f4"), k=1)
...         return hits.ids.tolist()
>>> asyncio.run(main())
[8]
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

import spinney
from spinney import _native

T = TypeVar("T")

_DONE: Any = object()


class _Threads:
    """The threads of one store: some that read, and one that waits for the write transaction."""

    def __init__(self, count: int) -> None:
        self.readers = ThreadPoolExecutor(count, "spinney-aio")
        # Waiting for other writers must take no thread from the searches.
        self.writer = ThreadPoolExecutor(1, "spinney-aio-writer")
        self.writing = asyncio.Lock()

    async def read(self, work: Callable[..., T], *args: Any, **how: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.readers, _call, [(work, args, how)])

    async def search(self, work: Callable[..., T], *args: Any, **how: Any) -> T:
        """As ``read``; cancelling the task ends the search and frees its thread."""
        stop = how["stop"] = how.get("stop") or _native.Stop()
        try:
            return await self.read(work, *args, **how)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def change(self, work: Callable[..., T], *args: Any, **how: Any) -> T:
        """Runs ``work`` on the thread that writes, to its end even if the task is cancelled."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self.writer, _call, [(work, args, how)]))

    def end(self) -> None:
        self.readers.shutdown(wait=True)
        self.writer.shutdown(wait=True)


def _call(asked: list[tuple[Callable[..., T], Any, Any]]) -> T:
    # The thread keeps nothing of it, such as a commit, when the caller has its result.
    work, args, how = asked.pop()
    return work(*args, **how)


class _Pages(AsyncIterator[T]):
    """What ``begin`` returns, one by one. Its commit is let go as soon as this goes away."""

    def __init__(self, threads: _Threads, begin: Callable[[], Iterator[T]]) -> None:
        self._threads, self._begin = threads, begin
        self._pages: Iterator[T] | None = None

    async def __anext__(self) -> T:
        page = await self._threads.read(self._next)
        if page is _DONE:
            raise StopAsyncIteration
        return page

    def _next(self) -> T:
        if self._pages is None:
            self._pages = self._begin()
        page: T = next(self._pages, _DONE)
        return page


def open(path: Any, *, threads: int | None = None, **options: Any) -> Store:  # noqa: A001
    """The store at ``path``, with the options of ``spinney.Store``: an async context manager."""
    return Store(path, threads=threads, **options)


class Store:
    """As ``spinney.Store``, with calls that are awaited."""

    def __init__(self, path: Any, *, threads: int | None = None, **options: Any) -> None:
        self._open = functools.partial(spinney.Store, path, threads=threads, **options)
        self._store: spinney.Store | None = None
        self._threads = _Threads(threads or 4)

    @property
    def store(self) -> spinney.Store:
        """The store beneath."""
        if self._store is None:
            raise spinney.ClosedError("the store is not open: enter it by `async with`")
        return self._store

    async def __aenter__(self) -> Self:
        self._store = await self._threads.read(self._open)
        return self

    async def __aexit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the store, when what was begun has ended."""
        await self._threads.change(self.store.close)
        await asyncio.to_thread(self._threads.end)

    async def index(self, name: str, dims: int | None = None, metric: str | None = None,
                    **options: Any) -> Index:
        """The index of this name, created if ``dims`` is given and it is not there."""
        index = await self._threads.change(self.store.index, name, dims, metric, **options)
        return Index(index, self._threads)

    async def collection(self, name: str, dims: int | None = None, metric: str | None = None,
                         **options: Any) -> Collection:
        """The collection of this name, created if ``dims`` is given and it is not there."""
        found = await self._threads.change(self.store.collection, name, dims, metric, **options)
        return Collection(found, self._threads)

    async def drop(self, name: str) -> bool:
        """Deletes the index or collection of this name. Whether it was there."""
        return await self._threads.change(self.store.drop, name)

    async def backup(self, path: Any, **options: Any) -> spinney.Backup:
        """As ``spinney.Store.backup``."""
        return await self._threads.read(self.store.backup, path, **options)

    async def stats(self) -> spinney.StoreStats:
        """As ``spinney.Store.stats``."""
        return await self._threads.read(self.store.stats)

    def write(self) -> WriteTxn:
        """The write transaction: an async context manager. Tasks wait for each other in turn."""
        return WriteTxn(self.store, self._threads)

    def read(self) -> Snapshot:
        """The newest commit: an async context manager."""
        return Snapshot(self.store, self._threads)


class Snapshot:
    """As ``spinney.Snapshot``."""

    def __init__(self, store: spinney.Store, threads: _Threads) -> None:
        self._store, self._threads = store, threads
        self._snapshot: spinney.Snapshot | None = None

    async def __aenter__(self) -> Self:
        self._snapshot = await self._threads.read(self._store.read)
        return self

    async def __aexit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._snapshot is not None:
            await asyncio.shield(self._threads.read(self._snapshot.close))

    @overload
    def __getitem__(self, of: Index) -> Index: ...
    @overload
    def __getitem__(self, of: Collection) -> Collection: ...
    def __getitem__(self, of: Index | Collection) -> Index | Collection:
        """The index or collection as it was at this commit."""
        if self._snapshot is None:
            raise spinney.ClosedError("the snapshot is not open: enter it by `async with`")
        if isinstance(of, Index):
            return Index(self._snapshot[of.sync], self._threads)
        return Collection(self._snapshot[of.sync], self._threads)


class WriteTxn:
    """As ``spinney.WriteTxn``: commits at the end of its block, or aborts on an exception."""

    def __init__(self, store: spinney.Store, threads: _Threads) -> None:
        self._store, self._threads = store, threads
        self._txn: spinney.WriteTxn | None = None

    @property
    def txn(self) -> spinney.WriteTxn:
        """The transaction beneath."""
        if self._txn is None:
            raise spinney.ClosedError("the transaction is not open: enter it by `async with`")
        return self._txn

    async def __aenter__(self) -> Self:
        await self._threads.writing.acquire()
        begun = asyncio.ensure_future(self._threads.change(self._store.write))
        try:
            self._txn = await asyncio.shield(begun)
        except asyncio.CancelledError:
            # It may begin yet. Until it has been aborted, no other task can.
            begun.add_done_callback(self._give_up)
            raise
        except BaseException:
            self._threads.writing.release()
            raise
        return self

    async def __aexit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._threads.change(self.txn.__exit__, raised, error, trace)
        finally:
            self._threads.writing.release()

    def _give_up(self, begun: asyncio.Future[spinney.WriteTxn]) -> None:
        try:
            if not begun.cancelled() and begun.exception() is None:
                begun.result().abort()
        finally:
            self._threads.writing.release()

    async def add(
        self, index: Index, ids: Any, vectors: Any, **how: Any
    ) -> NDArray[np.int64]:
        """Adds vectors under ids, or after the highest for ``None``. Returns the ids."""
        return await self._threads.change(self.txn.add, index.sync, ids, vectors, **how)

    async def delete(self, of: Index | Collection, ids: Any) -> int:
        """Deletes items of an index, or the document of a key. Returns how many were there."""
        return await self._threads.change(self.txn.delete, of.sync, ids)

    async def clear(self, index: Index) -> None:
        """Deletes all items of an index."""
        await self._threads.change(self.txn.clear, index.sync)

    async def build(self, of: Index | Collection, **options: Any) -> spinney.BuildStats:
        """Builds an index or a collection."""
        return await self._threads.change(self.txn.build, of.sync, **options)

    async def put(self, collection: Collection, *args: Any, **how: Any) -> None:
        """Puts a document."""
        await self._threads.change(self.txn.put, collection.sync, *args, **how)

    async def put_many(self, collection: Collection, *args: Any, **how: Any) -> None:
        """Puts documents."""
        await self._threads.change(self.txn.put_many, collection.sync, *args, **how)

    async def delete_where(self, collection: Collection, filter: Any) -> int:  # noqa: A002
        """Deletes the documents that a filter means. Returns how many."""
        return await self._threads.change(self.txn.delete_where, collection.sync, filter)


class Index:
    """As ``spinney.Index``. ``sync`` is the index beneath."""

    def __init__(self, index: spinney.Index, threads: _Threads) -> None:
        self.sync, self._threads = index, threads
        self.name, self.dims, self.metric = index.name, index.dims, index.metric

    async def search(self, queries: Any, k: int = 10, **how: Any) -> spinney.Hits:
        """As ``spinney.Index.search``."""
        return await self._threads.search(self.sync.search, queries, k, **how)

    async def search_items(self, ids: Any, k: int = 10, **how: Any) -> spinney.Hits:
        """As ``spinney.Index.search_items``."""
        return await self._threads.search(self.sync.search_items, ids, k, **how)

    async def search_any(self, examples: Any, k: int = 10, **how: Any) -> spinney.Hits:
        """As ``spinney.Index.search_any``."""
        return await self._threads.search(self.sync.search_any, examples, k, **how)

    async def search_like(
        self, positive: Any, negative: Any = None, k: int = 10, **how: Any
    ) -> spinney.Hits:
        """As ``spinney.Index.search_like``."""
        return await self._threads.search(self.sync.search_like, positive, negative, k, **how)

    def pages(self, query: Any, page: int = 10, **how: Any) -> AsyncIterator[spinney.Hits]:
        """As ``spinney.Index.pages``, of the commit at the first page: an async iterator."""
        return _Pages(self._threads, functools.partial(self.sync.pages, query, page, **how))

    async def add(self, ids: Any, vectors: Any, **how: Any) -> NDArray[np.int64]:
        """As ``spinney.Index.add``, in a transaction of its own."""
        async with self._threads.writing:
            return await self._threads.change(self.sync.add, ids, vectors, **how)

    async def delete(self, ids: Any) -> int:
        """As ``spinney.Index.delete``, in a transaction of its own."""
        async with self._threads.writing:
            return await self._threads.change(self.sync.delete, ids)

    async def build(self, **options: Any) -> spinney.BuildStats:
        """As ``spinney.Index.build``, in a transaction of its own."""
        async with self._threads.writing:
            return await self._threads.change(self.sync.build, **options)

    async def vector(self, ids: Any) -> NDArray[np.float32]:
        """The vector of an item, or those of several."""
        return await self._threads.read(self.sync.__getitem__, ids)

    async def len(self) -> int:
        """How many items there are."""
        return await self._threads.read(len, self.sync)


class Collection:
    """As ``spinney.Collection``. ``sync`` is the collection beneath."""

    def __init__(self, collection: spinney.Collection, threads: _Threads) -> None:
        self.sync, self._threads = collection, threads
        self.name, self.dims, self.metric = collection.name, collection.dims, collection.metric

    def scoped(self, label: str) -> Collection:
        """As ``spinney.Collection.scoped``."""
        return Collection(self.sync.scoped(label), self._threads)

    async def search(self, queries: Any, k: int = 10, **how: Any) -> Any:
        """As ``spinney.Collection.search``."""
        return await self._threads.search(self.sync.search, queries, k, **how)

    async def search_key(self, key: Any, k: int = 10, **how: Any) -> list[spinney.DocumentHit]:
        """As ``spinney.Collection.search_key``."""
        return await self._threads.search(self.sync.search_key, key, k, **how)

    async def search_any(
        self, examples: Any, k: int = 10, **how: Any
    ) -> list[spinney.DocumentHit]:
        """As ``spinney.Collection.search_any``."""
        return await self._threads.search(self.sync.search_any, examples, k, **how)

    async def search_like(
        self, positive: Any, negative: Any = None, k: int = 10, **how: Any
    ) -> list[spinney.DocumentHit]:
        """As ``spinney.Collection.search_like``."""
        return await self._threads.search(self.sync.search_like, positive, negative, k, **how)

    def pages(
        self, query: Any, page: int = 10, **how: Any
    ) -> AsyncIterator[list[spinney.DocumentHit]]:
        """As ``spinney.Collection.pages``, of the commit at the first page: an async iterator."""
        return _Pages(self._threads, functools.partial(self.sync.pages, query, page, **how))

    async def get(self, key: Any) -> spinney.Document | None:
        """As ``spinney.Collection.get``."""
        return await self._threads.read(self.sync.get, key)

    async def put(self, *args: Any, **how: Any) -> None:
        """As ``spinney.Collection.put``, in a transaction of its own."""
        async with self._threads.writing:
            await self._threads.change(self.sync.put, *args, **how)

    async def put_many(self, *args: Any, **how: Any) -> None:
        """As ``spinney.Collection.put_many``, in a transaction of its own."""
        async with self._threads.writing:
            await self._threads.change(self.sync.put_many, *args, **how)

    async def delete_where(self, filter: Any) -> int:  # noqa: A002
        """As ``spinney.Collection.delete_where``, in a transaction of its own."""
        async with self._threads.writing:
            return await self._threads.change(self.sync.delete_where, filter)

    async def build(self, **options: Any) -> spinney.BuildStats:
        """As ``spinney.Collection.build``, in a transaction of its own."""
        async with self._threads.writing:
            return await self._threads.change(self.sync.build, **options)

    async def delete(self, key: Any) -> bool:
        """As ``spinney.Collection.delete``, in a transaction of its own."""
        async with self._threads.writing:
            return await self._threads.change(self.sync.delete, key)

    async def len(self) -> int:
        """How many documents there are."""
        return await self._threads.read(len, self.sync)
