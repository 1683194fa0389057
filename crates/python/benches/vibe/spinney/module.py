"""spinney in VIBE: a folder for ``vibe/algorithms``.

VIBE compares algorithms: this is the forest of cluster trees. Its store is a detail.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

import spinney

from ..base.module import BaseANN

_METRICS = {
    "euclidean": "euclidean",
    "cosine": "cosine",
    "normalized": "cosine",
    "ip": "dot",
    "hamming": "hamming",
}


class Spinney(BaseANN):
    """The forest of cluster trees, in a store in a temporary folder."""

    def __init__(self, metric: str, spill: bool | None, sketch_bits: int | None) -> None:
        self.metric = _METRICS[metric]
        self.build = {"spill": spill, "sketch_bits": sketch_bits}
        self.how: dict[str, Any] = {}

    def fit(self, X: np.ndarray) -> None:  # noqa: N803
        self._fit(X, None)

    def fit_ood(
        self, X_train: np.ndarray, X_learn: np.ndarray, X_learn_neighbors: np.ndarray  # noqa: N803
    ) -> None:
        """Their neighbours are not needed: recall is measured by searching."""
        self._fit(X_train, X_learn)

    def _fit(self, rows: np.ndarray, learn: np.ndarray | None) -> None:
        # Under this metric a byte has eight dimensions.
        self.is_packed = self.metric == "hamming"
        dims = rows.shape[1] * (8 if self.is_packed else 1)
        self.folder = tempfile.TemporaryDirectory(prefix="spinney-")
        self.store = spinney.Store(self.folder.name, durability="none", threads=1)
        self.index = self.store.index("items", dims, self.metric)
        with self.store.write() as txn:
            txn.add(self.index, np.arange(len(rows)), rows, packed=self.is_packed)
            txn.build(self.index, threads=1, **self.build)
            if learn is not None:
                txn.calibrate(self.index, learn)

    def set_query_arguments(self, recall: float) -> None:
        self.how = {"recall": recall}

    def query(self, v: np.ndarray, n: int) -> np.ndarray:
        return self.index.search(v, n, packed=self.is_packed, **self.how).ids

    def __str__(self) -> str:
        given = (self.build | self.how).items()
        return f"Spinney({', '.join(f'{name}={x}' for name, x in given if x is not None)})"
