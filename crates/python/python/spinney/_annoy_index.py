"""``Index`` as in scikit-plots, over an ``AnnoyIndex``. Import it from ``spinney.annoy``."""

from __future__ import annotations

import base64
import operator
import os
import warnings
from typing import Any

import numpy as np

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
from spinney._annoy_params import ALIASES, LIMITS, SCHEMA, check_names, checked, decoded


class Index:
    """Vectors under ids, with the interface of scikit-plots.

    It is empty until an item is added, and can be searched when it is built. Distances are those of
    Annoy: under "angular", also called "cosine", sqrt(2 (1 - cos)); under "dot" the product.

    Args:
        f: The length of the vectors. None or 0: that of the first one.
        metric: "angular", "euclidean", "manhattan", "hamming" or "dot", or another name of one.
        n_neighbors: How many neighbours ``kneighbors`` finds if it is not told.
        on_disk_path: A file in which the index is built.
        prefault: Whether ``load`` and ``save`` read the file through if they are not told.
        seed: The seed of builds. None: the default.
        verbose: From -2 to 2. From 1 on, builds tell on standard error what they did.
        schema_version: The form of the states that ``get_state`` and ``serialize`` return.
        dtype: "float32", as numbers are stored.
        index_dtype: "int32" or "int64": ids up to 2**31 - 1, or up to 2**32 - 1.
        wrapper_dtype: "uint32" or "uint64". It has no effect.
        random_dtype: "uint32" or "uint64". It has no effect.

    Raises:
        ValueError: a parameter has a value that it cannot take.
        OSError: ``on_disk_path`` cannot be written.
    """

    def __init__(
        self,
        f: int | None = None,
        metric: str | None = None,
        n_neighbors: int = 5,
        on_disk_path: str | os.PathLike[str] | None = None,
        prefault: bool = False,
        seed: int | None = None,
        verbose: int | None = None,
        schema_version: int = 0,
        dtype: str = "float32",
        index_dtype: str = "int32",
        wrapper_dtype: str = "uint64",
        random_dtype: str = "uint64",
    ) -> None:
        self._core: AnnoyIndex | None = None
        self._f = 0
        self._metric: str | None = None
        # The other parameters, by name.
        self._rest: dict[str, Any] = {}
        self._set_f(f)
        self._set_metric(metric)
        self._set_rest(
            n_neighbors=n_neighbors,
            on_disk_path=on_disk_path,
            prefault=prefault,
            seed=seed,
            verbose=verbose,
            schema_version=schema_version,
            dtype=dtype,
            index_dtype=index_dtype,
            wrapper_dtype=wrapper_dtype,
            random_dtype=random_dtype,
        )
        self._construct()

    def _set_f(self, f: int | None) -> None:
        f = 0 if f is None else operator.index(f)
        if f < 0:
            raise ValueError(f"f takes 0 or more, got {f}")
        self._f = f

    def _set_metric(self, metric: str | None) -> None:
        if metric is not None and metric not in ALIASES:
            raise ValueError(f"metric takes one of {', '.join(ALIASES)}, got {metric!r}")
        self._metric = None if metric is None else ALIASES[metric]

    def _set_rest(self, **params: Any) -> None:
        """Checks all before any is changed."""
        plain = {name: checked(name, value) for name, value in params.items()}
        self._rest.update(plain)

    def _construct(self) -> None:
        """Makes the index beneath, once its vectors and its metric are known."""
        if self._core is not None or not self._f:
            return
        if self._metric is None:
            warnings.warn(
                "metric will have to be given: pass metric='angular'", FutureWarning, stacklevel=3
            )
            self._metric = "angular"
        core = AnnoyIndex(self._f, self._metric)
        if self._rest["on_disk_path"] is not None:
            core.on_disk_build(self._rest["on_disk_path"])
        self._core = core

    @property
    def f(self) -> int:
        """The length of the vectors; 0 until it is known. It is fixed by construction."""
        return self._f

    @f.setter
    def f(self, f: int | None) -> None:
        if self._core is not None:
            raise ValueError("f cannot change once the index is constructed: make another")
        self._set_f(f)
        self._construct()

    @property
    def metric(self) -> str | None:
        """The metric under its first name. It is fixed by construction."""
        return self._metric

    @metric.setter
    def metric(self, metric: str | None) -> None:
        if self._core is not None:
            raise ValueError("metric cannot change once the index is constructed: make another")
        self._set_metric(metric)
        self._construct()

    @property
    def n_neighbors(self) -> int:
        """How many neighbours ``kneighbors`` finds if it is not told."""
        return int(self._rest["n_neighbors"])

    @n_neighbors.setter
    def n_neighbors(self, n_neighbors: int) -> None:
        self._set_rest(n_neighbors=n_neighbors)

    @property
    def _f_valid(self) -> bool:
        return self._f > 0

    @property
    def _metric_valid(self) -> bool:
        return self._metric is not None

    @property
    def _index_constructed(self) -> bool:
        return self._core is not None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor by name."""
        return {"f": self._f, "metric": self._metric, **self._rest}

    def set_params(self, **params: Any) -> Index:
        """Changes parameters, and returns the index.

        Raises:
            ValueError: a name or a value is unknown, or f or metric of a constructed index.
        """
        check_names(params)
        fixed = {"f", "metric"} & params.keys()
        if self._core is not None and fixed:
            name = min(fixed)
            raise ValueError(f"{name} cannot change once the index is constructed: make another")
        self._set_rest(**{name: params[name] for name in params.keys() - fixed})
        if "f" in fixed:
            self._set_f(params["f"])
        if "metric" in fixed:
            self._set_metric(params["metric"])
        self._construct()
        return self

    def clone(self, **override: Any) -> Index:
        """A new index without items, of the same parameters but for those given.

        Raises:
            ValueError: a name is unknown, or a value.
        """
        check_names(override)
        return type(self)(**{**self.get_params(), **override})

    def set_seed(self, seed: int | None) -> None:
        """The seed of the next builds. 0 and None: the default."""
        self._set_rest(seed=seed)

    def set_verbose(self, v: int | None) -> None:
        """How much builds tell, from -2 to 2."""
        self._set_rest(verbose=v)

    def _constructed(self) -> AnnoyIndex:
        if self._core is None:
            raise RuntimeError("the index is not constructed: set f and metric, or add an item")
        return self._core

    def _built(self) -> AnnoyIndex:
        if not self.is_built():
            raise RuntimeError("the index is not built: call build first")
        return self._constructed()

    def _row(self, vector: Any) -> Any:
        if len(vector) != self._f:
            raise ValueError(f"vectors of {self._f} numbers are expected, got {len(vector)}")
        return vector

    def _id(self, item: int) -> int:
        """Of an item that there is, or a hole."""
        item = operator.index(item)
        if not 0 <= item < self.get_n_items():
            raise IndexError(f"item {item} is not from 0 to {self.get_n_items() - 1}")
        return item

    def add_item(self, item: int, vector: Any) -> None:
        """Adds a vector of ``f`` numbers under an id.

        Raises:
            RuntimeError: the index is built, or neither f nor a metric is known.
            ValueError: the vector has another length, or a number that is not finite.
            IndexError: the id is negative.
            OverflowError: the id is beyond ``index_dtype``.
        """
        if self._core is None and self._metric is None:
            raise RuntimeError("the index is not constructed: set metric first")
        if self.is_built():
            raise RuntimeError("the index is built: call unbuild first, or make another")
        item = operator.index(item)
        if item < 0:
            raise IndexError(f"ids are 0 or more, got {item}")
        limit = LIMITS[self._rest["index_dtype"]]
        if item > limit:
            raise OverflowError(
                f"ids of {self._rest['index_dtype']} are at most {limit}, got {item}"
            )
        if not self._f:
            self._set_f(len(vector))
        vector = self._row(vector)
        self._construct()
        _annoy_add(self._constructed(), item, vector)

    def build(self, n_trees: int = -1, n_jobs: int = -1) -> None:
        """Builds the index by ``n_jobs`` threads, -1 for all. Items cannot be added any more.

        ``n_trees`` is remembered: -1 for 2 f, and 10 at least.

        Raises:
            RuntimeError: there are no items, or it is built.
        """
        core = self._constructed()
        if self.is_built():
            raise RuntimeError("the index is built: call unbuild first")
        if self.is_empty():
            raise RuntimeError("there are no items: add some first")
        verbose = self._rest["verbose"]
        _annoy_seed(core, self._rest["seed"])
        core.verbose(verbose is not None and verbose >= 1)
        core.build(max(10, 2 * self._f) if n_trees == -1 else n_trees, n_jobs)

    def unbuild(self) -> None:
        """Takes the build back, so that items can be added.

        Raises:
            RuntimeError: the index is not built, or is loaded from a file.
        """
        core = self._built()
        if _annoy_file(core)[0] is not None:
            raise RuntimeError("a loaded index cannot be unbuilt: add its items to another")
        core.unbuild()

    def unload(self) -> None:
        """Forgets all items. It can be called at any time."""
        if self._core is not None:
            self._core.unload()

    def is_built(self) -> bool:
        """Whether it can be searched."""
        return self._core is not None and bool(_annoy_file(self._core)[2])

    def is_empty(self) -> bool:
        """Whether it has no items."""
        return self.get_n_items() == 0

    @property
    def _state(self) -> str:
        if self.is_built():
            return "BUILT"
        return "EMPTY" if self.is_empty() else "BUILDING"

    def get_n_items(self) -> int:
        """One more than the highest id."""
        return 0 if self._core is None else self._core.get_n_items()

    def get_n_trees(self) -> int:
        """How many trees it was built for; 0 if it is not built."""
        return 0 if self._core is None else self._core.get_n_trees()

    def get_item(self, item: int) -> list[float]:
        """The vector of an item; zeros if nothing has this id.

        Raises:
            RuntimeError: the index is not constructed.
            IndexError: the id is negative, or beyond the highest.
        """
        core = self._constructed()
        return core.get_item_vector(self._id(item))

    def get_distance(self, i: int, j: int) -> float:
        """The distance between two items, or their product under "dot". No build is needed.

        Raises:
            RuntimeError: the index is not constructed.
            IndexError: an id is negative, or beyond the highest.
        """
        core = self._constructed()
        return core.get_distance(self._id(i), self._id(j))

    def get_nns_by_item(
        self, item: int, n: int, search_k: int = -1, include_distances: bool = False
    ) -> list[int] | tuple[list[int], list[float]]:
        """The ``n`` nearest items to an item, itself among them; or they and their distances.

        Raises:
            RuntimeError: the index is not built.
            IndexError: the id is negative, or beyond the highest.
        """
        core = self._built()
        return core.get_nns_by_item(self._id(item), n, search_k, bool(include_distances))

    def get_nns_by_vector(
        self, vector: Any, n: int, search_k: int = -1, include_distances: bool = False
    ) -> list[int] | tuple[list[int], list[float]]:
        """The ``n`` nearest items to a vector; or they and their distances.

        Raises:
            RuntimeError: the index is not built.
            ValueError: the vector has another length, or a number that is not finite.
        """
        core = self._built()
        return core.get_nns_by_vector(self._row(vector), n, search_k, bool(include_distances))

    def kneighbors(
        self, X: Any, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """The nearest items to each row of X, as scikit-learn returns them.

        They are arrays of (rows, n_neighbors): distances and ids, or ids alone.
        """
        n = self._rest["n_neighbors"] if n_neighbors is None else n_neighbors
        ids, distances = self._built().nns_batch(np.atleast_2d(np.asarray(X)), n)
        return (distances, ids) if return_distance else ids

    def load(self, filename: str | os.PathLike[str], prefault: bool | None = None) -> None:
        """Opens a file of ours, or one that Annoy saved.

        Raises:
            RuntimeError: the index is not constructed, or the file holds other vectors.
            OSError: the file cannot be read.
        """
        core = self._constructed()
        try:
            core.load(filename, self._rest["prefault"] if prefault is None else bool(prefault))
        except OSError as error:
            if getattr(error, "is_mismatch", False):
                raise RuntimeError(str(error)) from error
            raise

    def save(self, filename: str | os.PathLike[str], prefault: bool | None = None) -> None:
        """Saves the index in a file, in place of what was there, and loads it.

        Raises:
            RuntimeError: the index is not built.
            OSError: the file cannot be written.
        """
        core = self._built()
        core.save(filename, self._rest["prefault"] if prefault is None else bool(prefault))

    def on_disk_build(self, filename: str | os.PathLike[str]) -> None:
        """The index will be built in this file. Call it before items are added.

        Raises:
            RuntimeError: there are items.
            OSError: the file cannot be written.
        """
        if not self.is_empty():
            raise RuntimeError("there are items: call on_disk_build before they are added")
        if self._core is not None:
            self._core.on_disk_build(filename)
        self._set_rest(on_disk_path=filename)

    def get_state(self) -> dict[str, Any]:
        """Parameters and all items, for ``set_state``. Pickles and copies are made of it."""
        state: dict[str, Any] = {
            "schema_version": self._rest["schema_version"],
            "params": self.get_params(),
            "kind": self._state,
        }
        if self._core is not None and self.is_built():
            state["data"] = _annoy_to_bytes(self._core)
        elif self._core is not None and not self.is_empty():
            ids = _annoy_ids(self._core).tolist()
            state["ids"] = ids
            state["data"] = _annoy_rows(self._core, ids).tobytes()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Becomes what ``get_state`` returned.

        Raises:
            TypeError: the state is no dictionary.
            ValueError: it is malformed, or of a newer form than is known here.
        """
        if not isinstance(state, dict):
            raise TypeError(f"a state is a dictionary, got {type(state).__name__}")
        try:
            version, params, kind = state["schema_version"], state["params"], state["kind"]
            if operator.index(version) > SCHEMA:
                raise ValueError(
                    f"the state is of form {version}, and {SCHEMA} is the newest known"
                )
            # Its file is the other's.
            new = Index(**{**params, "on_disk_path": None})
            if kind == "BUILT":
                _annoy_from_bytes(new._constructed(), state["data"])
            elif kind == "BUILDING":
                rows = np.frombuffer(state["data"], np.float32).reshape(len(state["ids"]), -1)
                for item, row in zip(state["ids"], rows, strict=True):
                    new.add_item(item, row)
            elif kind != "EMPTY":
                raise ValueError(f"no state is of the kind {kind!r}")
        except (KeyError, TypeError, RuntimeError, LookupError, OverflowError, OSError) as error:
            raise ValueError(f"the state is malformed: {error}") from error
        self.__dict__ = new.__dict__

    def serialize(self) -> dict[str, Any]:
        """As ``get_state``, of what JSON can hold: bytes are in base64."""
        state = self.get_state()
        if "data" in state:
            state["data"] = base64.b64encode(state["data"]).decode("ascii")
        return state

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Index:
        """The index that ``serialize`` was called on.

        Raises:
            TypeError: the data is no dictionary.
            ValueError: it is malformed, or of a newer form than is known here.
        """
        if not isinstance(data, dict):
            raise TypeError(f"serialized data is a dictionary, got {type(data).__name__}")
        state = dict(data)
        if "data" in state:
            state["data"] = decoded(state["data"])
        index = cls.__new__(cls)
        index.set_state(state)
        return index

    to_dict = serialize

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Index:
        """As ``deserialize``."""
        return cls.deserialize(data)

    def __getstate__(self) -> dict[str, Any]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.set_state(state)

    def repr_info(
        self,
        include_n_items: bool = True,
        include_n_trees: bool = True,
        include_memory: bool | None = None,
    ) -> str:
        """Parameters and counts as text. Memory is bytes of the file, if there is one."""
        info = self.get_params()
        if include_n_items:
            info["n_items"] = self.get_n_items()
        if include_n_trees:
            info["n_trees"] = self.get_n_trees()
        if self.is_built() and include_memory is not False:
            info["memory_usage_bytes"] = _annoy_file(self._constructed())[1]
        return f"Annoy(**{info!r})"

    def __repr__(self) -> str:
        return self.repr_info()
