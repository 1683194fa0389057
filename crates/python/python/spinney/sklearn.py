"""Neighbours for scikit-learn: a transformer that stands in for ``KNeighborsTransformer``.

>>> import numpy as np
>>> from sklearn.cluster import DBSCAN
>>> from sklearn.pipeline import make_pipeline
>>> from spinney.sklearn import SpinneyTransformer
>>> X = np.concatenate([np.zeros((20, 3)), np.ones((20, 3))])
>>> X += np.random.default_rng(1).normal(scale=0.01, size=X.shape)
>>> neighbours = SpinneyTransformer(n_neighbors=19)
>>> clusters = make_pipeline(neighbours, DBSCAN(eps=0.5, metric="precomputed"))
>>> sorted(set(clusters.fit_predict(X).tolist()))
[0, 1]
"""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

try:
    from joblib import effective_n_jobs
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as _error:
    raise ImportError(f"{_error}: pip install spinney[sklearn]") from _error

import spinney
from spinney import _temporary

__all__ = ["SpinneyTransformer"]

_METRICS = ("euclidean", "cosine", "manhattan", "hamming")
_MODES = ("distance", "connectivity")
_INDEX = "samples"
_FILE = "store.mdb"


class SpinneyTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator  # type: ignore[misc]
):
    """The graph of the nearest neighbours, as ``sklearn.neighbors.KNeighborsTransformer`` makes it.

    Which neighbours are found is approximate, by ``recall``; their distances are exact, and each
    row has as many as asked for. Samples are kept as float32.

    Args:
        n_neighbors: neighbours of a sample. In the mode "distance" there is one more: itself.
        mode: "distance", or "connectivity" for ones.
        metric: "euclidean", "cosine", "manhattan", or "hamming" for samples of zeros and ones.
            Distances are those of scikit-learn: under "hamming", the share of the numbers that
            differ.
        recall: the share of the true neighbours to aim at, above 0 and at most 1.
        random_state: seeds the build. Without it, too, the same samples give the same index.
        n_jobs: threads of builds and searches: one for ``None``, all for -1.
        path: the folder of a store for the samples; fitting replaces those that it holds. Without
            it, they are in a temporary folder, which goes when the estimator does.

    Attributes:
        n_samples_fit_: how many samples it was fitted to.
        n_features_in_: how many numbers a sample has.
        feature_names_in_: the names of the features, if they had names.

    A pickle holds the samples; with ``path``, it holds the path alone, and reads what is there.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        mode: str = "distance",
        metric: str = "euclidean",
        recall: float = 0.95,
        random_state: Any = None,
        n_jobs: int | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.metric = metric
        self.recall = recall
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.path = path

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Stores the samples ``X``, (n, features), and builds an index. ``y`` is ignored.

        Raises:
            ValueError: for a parameter out of its range, or samples that have no distance: numbers
                that are not finite, zero vectors under "cosine", other than bits under "hamming".
        """
        self._check("mode", _MODES)
        self._check("metric", _METRICS)
        _count(self.n_neighbors)
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall takes a number above 0 and at most 1, got {self.recall!r}")
        samples = validate_data(self, X, dtype=np.float32, order="C")
        seed = None if self.random_state is None else \
            int(check_random_state(self.random_state).randint(2**31 - 1))
        if self.path is None:
            folder, forget = _temporary.folder_of(self)
            store = _opened(folder)
        else:
            forget = None
            store = spinney.Store(self.path)
            store.drop(_INDEX)
        index = store.index(_INDEX, samples.shape[1], self.metric)
        with store.write() as txn:
            txn.add(index, np.arange(len(samples)), samples)
            txn.build(index, seed=seed, threads=effective_n_jobs(self.n_jobs))
        self._hold(store, index, forget)
        self.n_samples_fit_ = self._n_features_out = len(samples)
        return self

    def transform(self, X: Any) -> csr_matrix:  # noqa: N803
        """The neighbours of each row of ``X``, (n, features), among the samples.

        Returns a CSR matrix of float64, (n, n_samples_fit_), whose rows are sorted by distance.
        """
        check_is_fitted(self)
        return self.kneighbors_graph(X, self.n_neighbors + self._itself(), self.mode)

    def fit_transform(self, X: Any, y: Any = None) -> csr_matrix:  # noqa: N803
        """As ``fit`` and ``transform``. Each sample is the first of its own neighbours."""
        self.fit(X, y)
        others = self.n_neighbors + self._itself() - 1
        self._check_enough(others + 1)
        distances, ids = self._of_samples(others)
        own = np.arange(self.n_samples_fit_)[:, None]
        ids = np.concatenate([own, ids], axis=1)
        distances = np.concatenate([np.zeros(own.shape), distances], axis=1)
        return self._graph(distances, ids, self.mode)

    def kneighbors(
        self,
        X: Any = None,  # noqa: N803
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Distances and numbers of the nearest samples, the nearest first.

        Args:
            X: (n, features); ``None`` for the samples, which then are not their own neighbours.
            n_neighbors: how many, instead of those of the constructor.
            return_distance: without it, the numbers alone are returned.

        Returns:
            float64 and int64, each (n, n_neighbors).

        Raises:
            ValueError: if there are fewer samples than neighbours.
        """
        check_is_fitted(self)
        wanted = _count(self.n_neighbors if n_neighbors is None else n_neighbors)
        if X is None:
            self._check_enough(wanted + 1)
            distances, ids = self._of_samples(wanted)
        else:
            queries = validate_data(self, X, dtype=np.float32, order="C", reset=False)
            self._check_enough(wanted, len(queries))
            distances, ids = self._found(self._index.search(queries, wanted, **self._how()))
        return (distances, ids) if return_distance else ids

    def kneighbors_graph(
        self,
        X: Any = None,  # noqa: N803
        n_neighbors: int | None = None,
        mode: str = "connectivity",
    ) -> csr_matrix:
        """As ``kneighbors``, in a CSR matrix of ones or distances: (n, n_samples_fit_)."""
        if mode not in _MODES:
            raise ValueError(f"mode takes one of {', '.join(_MODES)}, got {mode!r}")
        distances, ids = self.kneighbors(X, n_neighbors)
        return self._graph(distances, ids, mode)

    def _check(self, name: str, values: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in values:
            raise ValueError(f"{name} takes one of {', '.join(values)}, got {value!r}")

    def _check_enough(self, wanted: int, queries: int | None = None) -> None:
        have = self.n_samples_fit_
        if wanted > have:
            raise ValueError(
                f"Expected n_neighbors <= n_samples_fit, each sample itself included, but "
                f"n_neighbors = {wanted}, n_samples_fit = {have}, n_samples = {queries or have}"
            )

    def _itself(self) -> int:
        return int(self.mode == "distance")

    def _how(self) -> Any:
        return {"recall": self.recall, "threads": effective_n_jobs(self.n_jobs)}

    def _of_samples(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        samples = np.arange(self.n_samples_fit_)
        return self._found(self._index.search_items(samples, count, **self._how()))

    def _found(self, hits: spinney.Hits) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        distances = np.maximum(hits.distances.astype(np.float64), 0)
        if self._index.metric == "hamming":
            distances /= self._index.dims
        return distances, hits.ids

    def _graph(
        self, distances: NDArray[np.float64], ids: NDArray[np.int64], mode: str
    ) -> csr_matrix:
        rows, wanted = ids.shape
        data = distances.ravel() if mode == "distance" else np.ones(ids.size)
        starts = np.arange(0, ids.size + 1, wanted)
        return csr_matrix((data, ids.ravel(), starts), shape=(rows, self.n_samples_fit_))

    def _hold(
        self, store: spinney.Store, index: spinney.Index, forget: weakref.finalize[Any, Any] | None
    ) -> None:
        former = self.__dict__.get("_forget")
        self._store, self._index, self._forget = store, index, forget
        if former is not None:
            former()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_index" not in state:
            return state
        store, _, forget = (state.pop(name) for name in ("_store", "_index", "_forget"))
        if forget is None:
            return state | {"_stored": store}
        with tempfile.TemporaryDirectory(prefix="spinney-") as folder:
            copy = Path(folder) / _FILE
            store.backup(copy, compact=True)
            return state | {"_stored": copy.read_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        stored = state.pop("_stored", None)
        super().__setstate__(state)
        if stored is None:
            return
        forget = None
        if isinstance(stored, bytes):
            folder, forget = _temporary.folder_of(self)
            (folder / _FILE).write_bytes(stored)
            stored = _opened(folder)
        self._hold(stored, stored.index(_INDEX), forget)


def _count(value: Any) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"n_neighbors takes a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"n_neighbors takes 1 or more, got {value}")
    return int(value)


def _opened(folder: Path) -> spinney.Store:
    """The store of a temporary folder."""
    return spinney.Store(folder / _FILE, single_file=True, durability="none")
