"""What a call costs from Python, beside hnswlib and Annoy where they are installed.

    pip install hnswlib==0.8.0 annoy==1.17.3
    python benches/overhead.py

Times are minima over rounds in which all take turns, so that other programs disturb all alike. The
vectors are the passages that come with spinney, and as many again with noise: 20,000 of 384
dimensions, compared by cosine.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import spinney

DATA = Path(__file__).parents[3] / "examples" / "data"
K = 10
Call = Callable[[int], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="turns that each one takes (30)")
    parser.add_argument("--items", type=int, default=20_000, help="items of the large index")
    options = parser.parse_args()
    items, queries = data(options.items)
    others = {name: imported(name) for name in ("hnswlib", "annoy")}
    for name, module in others.items():
        if module is None:
            print(f"{name} is not installed and left out: pip install {name}")
    with tempfile.TemporaryDirectory() as folder:
        calls(Path(folder), items, queries, others, options.rounds)
        batches(Path(folder), queries, others, options.rounds)
        during_a_build(Path(folder), items, queries)


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and a thousand queries, all of length 1."""
    row = np.dtype([("scale", "<f4"), ("codes", "i1", 384)])
    read = [np.fromfile(DATA / name, row, offset=8) for name in ("passages.i8bin", "queries.i8bin")]
    rows, queries = (some["scale"][:, None] * some["codes"] for some in read)
    rng = np.random.default_rng(1)

    def more(given: np.ndarray, wanted: int) -> np.ndarray:
        times = -(-wanted // len(given))
        noise = rng.normal(scale=0.03, size=(times, *given.shape))
        noise[0] = 0
        all_of_them = (given + noise).reshape(-1, given.shape[1])[:wanted]
        return (all_of_them / np.linalg.norm(all_of_them, axis=1, keepdims=True)).astype("f4")

    return more(rows, count), more(queries, 1000)


def imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def minima(calls: dict[str, Call], rounds: int, times: int) -> dict[str, float]:
    """Seconds a call: the shortest of all, each call with the number of its query."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(rounds):
        for name, call in calls.items():
            for n in range(turn * times, (turn + 1) * times):
                start = time.perf_counter()
                call(n)
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def means(calls: dict[str, Call], rounds: int, times: int) -> dict[str, float]:
    """Seconds a call: the least mean of a round of ``times`` queries."""
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for n in range(times):
                call(n + turn % 7)
            best[name] = min(best[name], (time.perf_counter() - start) / times)
    return best


def recall(call: Call, ids_of: Callable[[Any], Any], items: np.ndarray, q: np.ndarray) -> float:
    found = [ids_of(call(n)) for n in range(100)]
    truth = np.argsort(-(q[:100] @ items.T), axis=1)[:, :K]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def calls(
    folder: Path, items: np.ndarray, queries: np.ndarray, others: dict[str, Any], rounds: int
) -> None:
    rows = list(queries)
    lists = queries.tolist()
    count = len(rows)
    table: dict[str, list[float]] = {}
    recalls: dict[str, float] = {}
    for number, some in enumerate((items[:1], items)):
        index = spinney_of(folder, some)
        timed: dict[str, tuple[Call, Callable[[Any], Any]]] = {
            "spinney, array": (lambda n: index.search(rows[n % count], K), lambda hits: hits.ids),
            "spinney, rows of one": (
                lambda n: index.search(rows[n % count][None], K), lambda hits: hits.ids[0]),
            "spinney, list": (lambda n: index.search(lists[n % count], K), lambda hits: hits.ids),
        }
        if others["hnswlib"] is not None:
            graph = hnswlib_of(others["hnswlib"], some)
            timed["hnswlib, rows of one, ef 40"] = (
                lambda n: graph.knn_query(rows[n % count], min(K, len(some)), num_threads=1),
                lambda found: found[0][0])
        if others["annoy"] is not None:
            trees = annoy_of(others["annoy"], some)
            timed["annoy, list, 20 trees"] = (
                lambda n: trees.get_nns_by_vector(lists[n % count], K, include_distances=True),
                lambda found: found[0])
            timed["annoy, array, 20 trees"] = (
                lambda n: trees.get_nns_by_vector(rows[n % count], K, include_distances=True),
                lambda found: found[0])
        only = {name: call for name, (call, _) in timed.items()}
        shortest, mean = minima(only, rounds, 100), means(only, rounds, 100)
        for name, (call, ids_of) in timed.items():
            table.setdefault(name, []).extend([shortest[name] * 1e6, mean[name] * 1e6])
            if number == 1:
                recalls[name] = recall(call, ids_of, some, queries)
    print(f"\nOne search of {K} in an index of 1 item and of {len(items)}, microseconds:\n")
    print(f"{'':30}{'1 item':>10}{'mean':>8}{len(items):>10}{'mean':>8}{'recall':>9}")
    for name, figures in table.items():
        one, one_mean, all_, all_mean = figures
        print(f"{name:30}{one:10.2f}{one_mean:8.2f}{all_:10.1f}{all_mean:8.1f}{recalls[name]:9.3f}")


def batches(folder: Path, queries: np.ndarray, others: dict[str, Any], rounds: int) -> None:
    index = opened(folder, "large").index("items")
    timed: dict[str, Call] = {
        f"spinney, {threads} thread{'s' * (threads - 1)}":
            lambda _, threads=threads: index.search(queries, K, threads=threads)
        for threads in (1, 2)
    }
    if others["hnswlib"] is not None:
        graph = hnswlib_of(others["hnswlib"], index[index.ids().to_array()])
        timed |= {
            f"hnswlib, {threads} thread{'s' * (threads - 1)}":
                lambda _, threads=threads: graph.knn_query(queries, K, num_threads=threads)
            for threads in (1, 2)
        }
    best = minima(timed, rounds, 1)
    print(f"\nA batch of {len(queries)}:\n")
    for name, seconds in best.items():
        base = best[f"{name.split(',')[0]}, 1 thread"]
        print(f"{name:30}{len(queries) / seconds:10.0f} queries/s{base / seconds:8.2f} times")


def during_a_build(folder: Path, items: np.ndarray, queries: np.ndarray) -> None:
    """Medians, of searches that are timed in turns: with nobody building, and with a build."""
    index = opened(folder, "large").index("items")
    other = opened(folder, "other").index("items", items.shape[1], "cosine")
    other.add(range(len(items)), items, build=False)
    medians: dict[str, list[float]] = {"quiet": [], "during a build": []}

    def search_until(is_over: Callable[[int], bool]) -> float:
        times = []
        while not is_over(len(times)):
            start = time.perf_counter()
            index.search(queries[len(times) % len(queries)], K)
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1e6

    for _ in range(5):
        medians["quiet"].append(search_until(lambda done: done >= 5000))
        build = threading.Thread(target=other.build, kwargs={"rebuild": True, "threads": 1})
        build.start()
        medians["during a build"].append(search_until(lambda _: not build.is_alive()))
        build.join()
    print("\nA search in a thread, while another thread builds on one, microseconds:\n")
    print(f"{'':30}{'median, the least of 5':>24}{'of all 5':>10}")
    for name, each in medians.items():
        print(f"{name:30}{min(each):24.1f}{statistics.median(each):10.1f}")
    quiet, busy = (min(each) for each in medians.values())
    print(f"{'':30}{busy / quiet:24.2f} times")


def opened(folder: Path, name: str) -> spinney.Store:
    return spinney.Store(folder / name, durability="none")


def spinney_of(folder: Path, items: np.ndarray) -> spinney.Index:
    store = opened(folder, "large" if len(items) > 1 else "one")
    index = store.index("items", items.shape[1], "cosine")
    index.add(range(len(items)), items)
    return index


def hnswlib_of(hnswlib: Any, items: np.ndarray) -> Any:
    graph = hnswlib.Index("cosine", items.shape[1])
    graph.init_index(len(items), ef_construction=200, M=16)
    graph.add_items(items)
    graph.set_ef(40)
    return graph


def annoy_of(annoy: Any, items: np.ndarray) -> Any:
    trees = annoy.AnnoyIndex(items.shape[1], "angular")
    for number, item in enumerate(items):
        trees.add_item(number, item)
    trees.build(20)
    return trees


if __name__ == "__main__":
    main()
