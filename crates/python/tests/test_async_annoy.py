"""The interface of async-annoy."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest
import spinney
from spinney.async_annoy import AnnoyReader, AnnoyWriter, AsyncAnnoy


def test_it_reads_what_was_written(tmp_path):
    async def main():
        annoy = AsyncAnnoy("w", dimensions=2, directory=tmp_path)
        async with annoy.writer() as writer:
            await writer.add_item(index=0, vector=[1.0, 0.0])
            await writer.add_item(1, np.array([0.0, 1.0]))
        async with AnnoyReader(annoy) as reader:
            assert await reader.get_neighbours_for(vector=[0.2, 0.9], n=2) == [1, 0]
            assert len(await reader.get_neighbours_for(vector=[0.2, 0.9])) == 2
            vector = await reader.get_vector_by(index=0)
            assert vector.dtype == np.float32 and vector.tolist() == [1.0, 0.0]

    asyncio.run(main())


def test_readers_and_writers_do_not_wait_for_each_other(tmp_path):
    async def main():
        annoy = AsyncAnnoy("w", dimensions=1, metric="euclidean", directory=tmp_path)
        async with annoy.writer() as writer:
            await writer.add_item(0, [0.0])
        async with annoy.reader() as reader:
            async with annoy.writer() as writer:
                await writer.add_item(5, [0.0])
                assert await reader.get_neighbours_for(vector=[0.0], n=9) == [0]
            assert await reader.get_neighbours_for(vector=[0.0], n=9) == [0]
        async with annoy.reader() as reader:
            assert await reader.get_neighbours_for(vector=[0.0], n=9) == [5]

    asyncio.run(main())


def test_a_writer_starts_from_scratch_unless_it_keeps(tmp_path):
    async def main():
        options = {"dimensions": 1, "metric": "euclidean", "directory": tmp_path}
        async with AnnoyWriter("w", **options) as writer:
            await writer.add_item(0, [0.0])
            await writer.add_item(1, [1.0])
        async with AnnoyWriter("w", keep=True, **options) as writer:
            await writer.add_item(2, [2.0])
            assert await writer.delete_item(0) and not await writer.delete_item(9)
        async with AnnoyReader("w", **options) as reader:
            assert await reader.get_neighbours_for(vector=[0.0], n=9) == [1, 2]
        with pytest.raises(KeyError):
            async with AnnoyWriter("w", **options) as writer:
                raise KeyError
        async with AnnoyReader("w", **options) as reader:
            assert await reader.get_neighbours_for(vector=[0.0], n=9) == [1, 2]

    asyncio.run(main())


def test_what_is_missing_or_other(tmp_path):
    async def main():
        with pytest.raises(ValueError):
            async with AnnoyReader("none", dimensions=1, directory=tmp_path):
                pass
        assert not (tmp_path / "none").exists()
        async with AnnoyWriter("w", dimensions=1, directory=tmp_path) as writer:
            with pytest.raises(spinney.InvalidVectorError):
                await writer.add_item(0, [0.0, 1.0])
            await writer.add_item(0, [1.0])
        for other in ({"dimensions": 2}, {"dimensions": 1, "metric": "dot"}):
            with pytest.raises(spinney.MismatchError):
                async with AnnoyReader("w", directory=tmp_path, **other):
                    pass
            with pytest.raises(spinney.MismatchError):
                async with AnnoyWriter("w", directory=tmp_path, **other):
                    pass
        with pytest.raises(ValueError):
            AsyncAnnoy("w", metric="l7")

    asyncio.run(main())


def test_the_environment_is_read_when_an_object_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("ASYNC_ANNOY_DIMENSIONS", "3")
    monkeypatch.setenv("ASYNC_ANNOY_METRIC", "manhattan")
    monkeypatch.setenv("ASYNC_ANNOY_INDICES_DIRECTORY", str(tmp_path / "here"))
    annoy = AsyncAnnoy("w")
    assert (annoy.dimensions, annoy.metric, annoy.directory) == (3, "manhattan", tmp_path / "here")
    for name in ("DIMENSIONS", "METRIC", "INDICES_DIRECTORY"):
        monkeypatch.delenv(f"ASYNC_ANNOY_{name}")
    annoy = AsyncAnnoy("w")
    assert (annoy.dimensions, annoy.metric, str(annoy.directory)) == (
        384,
        "angular",
        "async_annoy_indices",
    )


def test_readers_in_other_processes_do_not_wait_for_the_writer(tmp_path):
    async def main():
        annoy = AsyncAnnoy("w", dimensions=1, metric="euclidean", directory=tmp_path)
        async with annoy.writer() as writer:
            await writer.add_item(0, [0.0])
        async with annoy.writer() as writer:
            await writer.add_item(5, [0.0])
            other = await asyncio.create_subprocess_exec(sys.executable, "-c", """if True:
                import asyncio, sys
                from spinney.async_annoy import AnnoyReader
                async def main():
                    how = dict(dimensions=1, metric="euclidean", directory=sys.argv[1])
                    async with AnnoyReader("w", **how) as reader:
                        assert await reader.get_neighbours_for(vector=[0.0], n=9) == [0]
                asyncio.run(main())
            """, str(tmp_path))
            assert await asyncio.wait_for(other.wait(), 60) == 0
        async with annoy.reader() as reader:
            assert await reader.get_neighbours_for(vector=[0.0], n=9) == [5]

    asyncio.run(main())
