"""spinney in ann-benchmarks: a folder for ``ann_benchmarks/algorithms``."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

import spinney

from ..base.module import BaseANN

_METRICS = {"angular": "cosine", "euclidean": "euclidean", "hamming": "hamming"}


class Spinney(BaseANN):
    """The forest of cluster trees, in a store in a temporary folder."""

    def __init__(self, metric: str, spill: bool | None, sketch_bits: int | None) -> None:
        if metric not in _METRICS:
            raise NotImplementedError(f"spinney has no metric {metric}")
        self.metric = _METRICS[metric]
        self.build = {"spill": spill, "sketch_bits": sketch_bits}
        self.how: dict[str, Any] = {}

    def fit(self, X: np.ndarray) -> None:  # noqa: N803
        self.folder = tempfile.TemporaryDirectory(prefix="spinney-")
        self.store = spinney.Store(self.folder.name, durability="none")
        self.index = self.store.index("items", X.shape[1], self.metric)
        ids = np.arange(len(X))
        if self.metric == "cosine":
            # Vectors of zeros have no direction, and are nobody's neighbours.
            ids = ids[X.any(axis=1)]
        with self.store.write() as txn:
            txn.add(self.index, ids, X[ids])
            txn.build(self.index, **self.build)

    def set_query_arguments(self, recall: float | None, search_k: int | None = None) -> None:
        """One of these is given, and says how much is searched."""
        self.how = {"recall": recall, "search_k": search_k}

    def query(self, v: np.ndarray, n: int) -> np.ndarray:
        if self.metric == "cosine" and not v.any():
            return np.arange(n)
        return self.index.search(v, n, **self.how).ids

    def batch_query(self, X: np.ndarray, n: int) -> None:  # noqa: N803
        if self.metric == "cosine" and not X.any(axis=1).all():
            self.res = [self.query(v, n) for v in X]
        else:
            self.res = self.index.search(X, n, **self.how).ids

    def get_additional(self) -> dict[str, Any]:
        return {"file_bytes": self.store.stats().file_bytes}

    def done(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def __str__(self) -> str:
        given = (self.build | self.how).items()
        return f"Spinney({', '.join(f'{name}={x}' for name, x in given if x is not None)})"
