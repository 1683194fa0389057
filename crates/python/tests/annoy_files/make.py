"""Makes the files in this folder with the package ``annoy`` 1.17.3, and what it answers.

Run it with ``python make.py`` where ``annoy`` is installed. The trees differ from machine to
machine, and so the answers are saved together with them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import annoy

FOLDER = Path(__file__).parent
DIMS = {"angular": 6, "euclidean": 6, "manhattan": 6, "hamming": 70, "dot": 6}


def short(found: tuple[list[int], list[float]]) -> tuple[list[int], list[float]]:
    """Distances to as many digits as they have."""
    return found[0], [float(f"{distance:.7g}") for distance in found[1]]


def make(metric: str) -> dict[str, object]:
    """Saves an index of 90 items, with holes, a twin and a zero vector. Returns the answers."""
    f = DIMS[metric]
    rng = np.random.default_rng(21)
    index = annoy.AnnoyIndex(f, metric)
    index.set_seed(7)
    rows = rng.normal(size=(90, f))
    rows[3], rows[8] = 0, rows[7]
    if metric == "hamming":
        rows = (rows > 0).astype(float)
    for item, row in enumerate(rows.astype(np.float32)):
        index.add_item(item if item < 80 else item + 10, row)
    index.build(3, n_jobs=1)
    index.save(str(FOLDER / f"{metric}.ann"))
    queries = rng.normal(size=(3, f)).round(2).tolist()
    asked = [(5, -1), (10, 40), (3, 0)]
    by_vector = [
        [query, n, search_k, *short(index.get_nns_by_vector(query, n, search_k, True))]
        for query in [*queries, [0.0] * f]
        for n, search_k in [*asked, *([(-1, -2)] if query == queries[0] else [])]
    ]
    by_item = [[i, *short(index.get_nns_by_item(i, 6, -1, True))] for i in (0, 3, 7, 8, 85, 99)]
    distances = [[i, j, index.get_distance(i, j)] for i, j in ((0, 1), (7, 8), (3, 4), (5, 5))]
    return {
        "f": f,
        "n_items": index.get_n_items(),
        "n_trees": index.get_n_trees(),
        "vectors": {i: short(([], index.get_item_vector(i)))[1] for i in (0, 3, 8, 85, 99)},
        "by_vector": by_vector,
        "by_item": by_item,
        "distances": distances,
    }


if __name__ == "__main__":
    answers = {metric: make(metric) for metric in DIMS}
    (FOLDER / "answers.json").write_text(json.dumps(answers, separators=(",", ":")) + "\n")
