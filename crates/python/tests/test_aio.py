"""The store in an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

import spinney
import spinney.aio


def go(main):
    return asyncio.run(main)


def test_searches_and_writes(tmp_path):
    async def main():
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 1, "euclidean")
            async with store.write() as txn:
                await txn.add(index, range(50), np.arange(50.0).reshape(-1, 1))
                assert await index.len() == 0
            hits = await index.search([3.2], 2)
            assert hits.ids.tolist() == [3, 4]
            assert (await index.search_items(3, 2)).ids.tolist() == [2, 4]
            async with store.read() as snapshot:
                await index.delete([3])
                assert (await snapshot[index].search([3.2], 1)).ids.tolist() == [3]
                assert (await index.search([3.2], 1)).ids.tolist() == [4]
            with pytest.raises(KeyError):
                async with store.write() as txn:
                    await txn.delete(index, [4])
                    raise KeyError
            assert await index.len() == 49
            pages = [page.ids.tolist() async for page in index.pages([0.0], 20)]
            assert [len(page) for page in pages] == [20, 20, 9]
            docs = await store.collection("c", 1, "euclidean")
            await docs.put("k", [1.0], b"p", ["l"])
            assert (await docs.search([1.0], 1, labelled="l"))[0].key == "k"
            assert (await docs.get("k")).payload == b"p"
            assert await docs.len() == 1 and await docs.delete("k")

    go(main())


def test_tasks_that_write_wait_in_turn(tmp_path):
    async def main():
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 1, "euclidean")

            async def add(i):
                if i % 2:
                    await index.add([i], [[float(i)]])
                else:
                    async with store.write() as txn:
                        await txn.add(index, [i], [[float(i)]])

            await asyncio.gather(*map(add, range(40)))
            assert await index.len() == 40

    go(main())


def test_the_loop_goes_on_during_a_build(tmp_path, rng, clustered):
    async def main():
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 16, "euclidean")
            store.store.set_build_after("a", None)
            await index.add(range(20_000), clustered(rng, 20_000, 16), build=False)
            building = asyncio.create_task(index.build(threads=1))
            turns = answers = 0
            while not building.done():
                await asyncio.sleep(0)
                turns += 1
                if turns % 100 == 0:
                    assert len(await index.search(np.zeros(16), 3)) == 3
                    answers += 1
            assert (await building).items == 20_000 and turns > 100 and answers > 0

    go(main())


def test_a_cancelled_search_gives_its_thread_back(tmp_path, rng):
    async def main():
        async with spinney.aio.open(tmp_path / "s", threads=1, durability="none") as store:
            index = await store.index("a", 2, "euclidean")
            store.store.set_build_after("a", None)
            await index.add(range(2000), rng.random((2000, 2)), build=False)
            begun = asyncio.Event()
            loop = asyncio.get_running_loop()

            def slow(_):
                loop.call_soon_threadsafe(begun.set)
                time.sleep(0.01)
                return True

            task = asyncio.create_task(index.search(np.zeros((1000, 2)), 5, predicate=slow, threads=1))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The one thread is free again long before 1,000 such searches would have ended.
            assert len(await asyncio.wait_for(index.search(np.zeros(2), 3), 60)) == 3

    go(main())


def test_a_cancelled_write_is_undone(tmp_path):
    async def main():
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 1, "euclidean")
            inside = asyncio.Event()

            async def write():
                async with store.write() as txn:
                    await txn.add(index, [1], [[1.0]])
                    inside.set()
                    await asyncio.sleep(60)

            async def wait():
                async with store.write():
                    raise AssertionError

            writing = asyncio.create_task(write())
            await inside.wait()
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.05)
            for task in (waiting, writing):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await index.len() == 0
            await asyncio.wait_for(index.add([2], [[1.0]]), 60)

    go(main())


def test_a_task_that_gave_up_waiting_writes_nothing_and_bars_nobody(tmp_path):
    async def main():
        other = spinney.Store(tmp_path / "s", durability="none")
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 1, "euclidean")

            async def write(i):
                async with store.write() as txn:
                    await txn.add(index, [i], [[float(i)]])

            for turn in range(20):
                txn = other.write()
                given_up = asyncio.create_task(write(1000))
                await asyncio.sleep(0.01)
                given_up.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await given_up
                others = [asyncio.create_task(write(turn)),
                          asyncio.create_task(index.add([100 + turn], [[1.0]]))]
                await asyncio.sleep(0.01)
                txn.abort()
                await asyncio.wait_for(asyncio.gather(*others), 60)
            assert 1000 not in index.sync and await index.len() == 40
        other.close()

    go(main())


def test_pages_that_are_left_early_let_their_commit_go(tmp_path):
    async def main():
        for _ in range(30):
            async with spinney.aio.open(tmp_path / "s", durability="none") as store:
                index = await store.index("a", 1, "euclidean")
                docs = await store.collection("c", 1, "euclidean")
                await index.add(range(20), np.arange(20.0).reshape(-1, 1))
                await docs.put("k", [1.0])
                async for page in index.pages([0.0], 3):
                    assert page.ids.tolist() == [0, 1, 2]
                    break
                async for found in docs.pages([0.0], 3):
                    assert [hit.key for hit in found] == ["k"]
                    break
            # It could be closed: no snapshot was left.
            assert store.store.closed

    go(main())


def test_a_search_without_a_stop_can_be_cancelled(tmp_path):
    async def main():
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 1, "euclidean")
            await index.add(range(20), np.arange(20.0).reshape(-1, 1))
            begun = threading.Event()
            slow = lambda _: begun.set() or time.sleep(0.01) or True  # noqa: E731
            task = asyncio.create_task(index.search([0.0], 3, stop=None, predicate=slow))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    go(main())


def test_other_forms_of_searches(tmp_path):
    async def main():
        async with spinney.aio.open(tmp_path / "s", durability="none") as store:
            index = await store.index("a", 1, "euclidean")
            docs = await store.collection("c", 1, "euclidean", keys="int")
            await index.add(range(9), np.arange(9.0).reshape(-1, 1))
            await docs.put_many(range(9), np.arange(9.0).reshape(-1, 1), labels=[["l"]] * 9)
            assert (await index.search_any([0], 1)).ids.tolist() == [1]
            assert (await index.search_like([3], [4], 1)).ids.tolist() == [2]
            assert [hit.key for hit in await docs.search_key(0, 2)] == [1, 2]
            assert [hit.key for hit in await docs.search_any([0], 1)] == [1]
            assert [hit.key for hit in await docs.search_like([3], [4], 1)] == [2]
            assert (await docs.build(rebuild=True)).items == 9
            assert await docs.delete_where("l") == 9

    go(main())


def test_a_store_that_was_not_entered(tmp_path):
    store = spinney.aio.open(tmp_path / "s")
    with pytest.raises(spinney.ClosedError):
        store.write()
