"""``AnnoyIndex``: files, saved, loaded and built in place."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from annoy_rows import METRICS, built, filled, rows
from spinney.annoy import AnnoyIndex


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


def test_save_and_load_keep_everything(metric: str, tmp_path: Path) -> None:
    index, path = built(metric, 3000), tmp_path / "index"
    queries = rows(metric, 20, seed=6)
    before = [index.get_nns_by_vector(q, 10, include_distances=True) for q in queries]
    assert index.save(fn=str(path), prefault=False) is True
    other = AnnoyIndex(8, metric)
    assert other.load(fn=path, prefault=True) is True
    for one in (index, other):
        assert (one.get_n_items(), one.get_n_trees()) == (3000, 10)
        assert before == [one.get_nns_by_vector(q, 10, include_distances=True) for q in queries]
    assert os.listdir(tmp_path) == ["index"], "no lock file, no link, no part"


def test_save_unbuilt_or_nowhere_is_an_os_error(metric: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="^You can't save an index that hasn't been built$"):
        filled(metric).save(tmp_path / "index")
    index = built(metric)
    for path in (tmp_path / "none" / "index", tmp_path):
        with pytest.raises(OSError):
            index.save(path)
    assert index.get_nns_by_item(3, 1), "it is as it was"


def test_save_does_not_disturb_who_has_the_old_file_open(metric: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    built(metric, 500).save(path)
    reader = AnnoyIndex(8, metric)
    reader.load(path)
    before = [reader.get_nns_by_item(i, 10, include_distances=True) for i in range(50)]
    for count in (20, 700):
        built(metric, count).save(path)
        fresh = AnnoyIndex(8, metric)
        fresh.load(path)
        assert (fresh.get_n_items(), reader.get_n_items()) == (count, 500)
        assert before == [reader.get_nns_by_item(i, 10, include_distances=True) for i in range(50)]


def test_save_twice_and_over_itself(metric: str, tmp_path: Path) -> None:
    index = built(metric)
    for name in ("a", "a", "b", "a"):
        assert index.save(tmp_path / name)
    assert index.get_n_items() == 50
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_load_errors(metric: str, tmp_path: Path) -> None:
    index = AnnoyIndex(8, metric)
    with pytest.raises(
        OSError, match=r"^Unable to open: No such file or directory \(2\)$"
    ) as error:
        index.load(tmp_path / "none")
    assert error.value.errno == 2
    (tmp_path / "empty").touch()
    with pytest.raises(OSError, match="Size of file is zero"):
        index.load(tmp_path / "empty")
    (tmp_path / "odd").write_bytes(b"x" * 7)
    with pytest.raises(OSError, match="Index size is not a multiple of vector size"):
        index.load(tmp_path / "odd")
    built(metric).save(tmp_path / "index")
    with pytest.raises(OSError, match="8 numbers"):
        AnnoyIndex(9, metric).load(tmp_path / "index")
    other = METRICS[METRICS.index(metric) - 1]
    with pytest.raises(OSError, match="it holds vectors of 8 numbers under"):
        AnnoyIndex(8, other).load(tmp_path / "index")
    for path in (3, None):
        with pytest.raises(TypeError):
            index.load(path)  # type: ignore[arg-type]


def test_a_cut_file_of_ours_is_an_os_error(tmp_path: Path) -> None:
    built("euclidean", 500).save(tmp_path / "index")
    whole = (tmp_path / "index").read_bytes()
    for length in (21, 4096, 8192, len(whole) // 2):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(OSError):
            AnnoyIndex(8, "euclidean").load(tmp_path / "cut")


def test_a_failed_load_leaves_what_was_there(tmp_path: Path) -> None:
    index = built("euclidean")
    with pytest.raises(OSError):
        index.load(tmp_path / "none")
    assert index.get_n_items() == 50


def test_load_through_a_link_and_a_relative_path(tmp_path: Path, monkeypatch) -> None:
    built("euclidean").save(tmp_path / "index")
    (tmp_path / "link").symlink_to("index")
    monkeypatch.chdir(tmp_path)
    for path in ("link", "index", "./index"):
        index = AnnoyIndex(8, "euclidean")
        index.load(path)
        assert index.get_n_items() == 50


def test_many_loads_of_one_file(tmp_path: Path) -> None:
    built("euclidean").save(tmp_path / "index")
    many = [AnnoyIndex(8, "euclidean") for _ in range(500)]
    for index in many:
        index.load(tmp_path / "index")
    for index in many:
        assert index.get_nns_by_item(3, 1) == [3]
        index.unload()
        index.load(tmp_path / "index")
        index.load(tmp_path / "index")
        assert index.get_nns_by_item(3, 1) == [3]


def test_unload_forgets_all_and_twice(metric: str) -> None:
    index = built(metric)
    assert index.unload() is True
    assert index.unload() is True
    assert (index.get_n_items(), index.get_n_trees()) == (0, 0)
    index.add_item(0, [1.0] * 8)
    index.build(1)
    assert index.get_nns_by_item(0, 1) == [0]


def test_on_disk_build(metric: str, tmp_path: Path) -> None:
    path, index = tmp_path / "index", AnnoyIndex(8, metric)
    assert index.on_disk_build(fn=path) is True
    for item, row in enumerate(rows(metric, 300)):
        index.add_item(item, row)
    assert index.get_item_vector(5) == rows(metric, 300)[5].tolist()
    index.build(10)
    assert os.listdir(tmp_path) == ["index"]
    assert index.save(tmp_path / "not written") is True
    assert os.listdir(tmp_path) == ["index"]
    want = built(metric, 300).get_nns_by_item(7, 9, include_distances=True)
    assert index.get_nns_by_item(7, 9, include_distances=True) == want
    index.unload()
    index.load(path)
    assert index.get_nns_by_item(7, 9, include_distances=True) == want


def test_on_disk_build_nowhere_is_an_os_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "index", tmp_path):
        with pytest.raises(OSError, match="^Unable to open: "):
            AnnoyIndex(8, "dot").on_disk_build(path)


def test_on_disk_build_of_more_than_is_kept_in_memory(tmp_path: Path) -> None:
    f, index = 4096, AnnoyIndex(4096, "euclidean")
    index.on_disk_build(tmp_path / "index")
    drawn = np.random.default_rng(1).normal(size=(4500, f)).astype(np.float32)
    for item, row in enumerate(drawn):
        index.add_item(item, row)
    for item in (0, 4095, 4499):
        assert index.get_item_vector(item) == drawn[item].tolist()
    index.build(1)
    for item in (0, 4095, 4499):
        assert index.get_nns_by_item(item, 1, include_distances=True) == ([item], [0.0])
    index.unload()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_is_written_into_and_never_replaced(metric: str, tmp_path: Path) -> None:
    index, pipe, read = built(metric), tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    # A pipe cannot be loaded, so the index stays as it was.
    with pytest.raises(OSError):
        index.save(pipe)
    reader.join()
    assert pipe.is_fifo()
    assert index.get_nns_by_item(3, 1) == built(metric).get_nns_by_item(3, 1)
    (tmp_path / "file").write_bytes(read[0])
    index.load(tmp_path / "file")
    assert index.get_n_items() == 50
    with pytest.raises(OSError, match="Unable to truncate"):
        AnnoyIndex(8, metric).on_disk_build(pipe)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk")
def test_a_full_disk_is_named(metric: str) -> None:
    before = os.stat("/dev/full").st_rdev
    with pytest.raises(OSError, match="No space left on device") as error:
        built(metric).save("/dev/full")
    assert error.value.errno == 28
    assert os.stat("/dev/full").st_rdev == before
