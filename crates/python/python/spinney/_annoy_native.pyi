"""Types of what the native module has for ``spinney.annoy``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from spinney._types import StrPath

__all__ = [
    "AnnoyIndex",
    "_annoy_add",
    "_annoy_file",
    "_annoy_from_bytes",
    "_annoy_ids",
    "_annoy_rows",
    "_annoy_seed",
    "_annoy_to_bytes",
]

@disjoint_base
class AnnoyIndex:
    """Vectors under ids, built once and searched by many: a drop-in for ``annoy.AnnoyIndex``.

    ``updatable`` ones take ``add_item``, ``delete_item`` and ``build`` also after a build, a save
    and a load. What has changed stays with the object until it is saved. Children of a process that
    forks search what it built or loaded, but change nothing that it can change.
    """

    def __new__(cls, f: int, metric: str = ..., *, updatable: bool = False) -> Self:
        """An empty index of vectors of ``f`` numbers, 1 to 65,536.

        Raises:
            ValueError: ``metric`` is not "angular", "euclidean", "manhattan", "hamming" or "dot".
        """
    def __init__(self, f: int, metric: str = ..., *, updatable: bool = False) -> None: ...
    @property
    def f(self) -> int:
        """The length of the vectors."""
    @property
    def metric(self) -> str: ...
    @property
    def updatable(self) -> bool: ...
    @property
    def recall(self) -> float:
        """The share of the true neighbours that searches with ``search_k=-1`` aim at.

        Until it is set: 0.999 for up to 100 hits, and for more as many comparisons as Annoy makes.
        """
    @recall.setter
    def recall(self, recall: float) -> None: ...
    def add_item(self, i: int, vector: Any) -> None:
        """Adds a vector of ``f`` numbers under an id, or puts it in the place of an earlier one.

        Raises:
            IndexError: the id is negative, or the vector has another length.
            ValueError: a number is not finite.
            Exception: the index is built or loaded, and not updatable.
        """
    def delete_item(self, i: int) -> bool:
        """Deletes an item of an updatable index. Whether it was there."""
    def build(self, n_trees: int, n_jobs: int = -1) -> Literal[True]:
        """Builds the index by ``n_jobs`` threads, -1 for all. ``n_trees`` is remembered: -1 for 10.

        Raises:
            Exception: it is built or loaded, and not updatable.
        """
    def unbuild(self) -> Literal[True]:
        """Takes the build back, so that items can be added."""
    def save(self, fn: StrPath, prefault: bool = False) -> Literal[True]:
        """Saves the index in a file, in place of what was there, and loads it.

        The file is written beside its place, synced and renamed: who has the old one open keeps it.

        Raises:
            OSError: it is not built, or the file cannot be written.
        """
    def load(self, fn: StrPath, prefault: bool = False) -> Literal[True]:
        """Opens a file of ours, or one that Annoy saved, where it lies.

        Raises:
            OSError: there is none, or it holds other vectors.
        """
    def unload(self) -> Literal[True]:
        """Forgets all: items, file, and seed."""
    def on_disk_build(self, fn: StrPath) -> Literal[True]:
        """The index will be built in this file, with little memory, and needs not be saved."""
    @overload
    def get_nns_by_item(
        self, i: int, n: int, search_k: int = -1, include_distances: Literal[False] = False
    ) -> list[int]: ...
    @overload
    def get_nns_by_item(
        self, i: int, n: int, search_k: int, include_distances: Literal[True]
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_item(
        self, i: int, n: int, search_k: int = -1, *, include_distances: Literal[True]
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_item(
        self, i: int, n: int, search_k: int = -1, include_distances: bool = False
    ) -> list[int] | tuple[list[int], list[float]]:
        """The ``n`` nearest items to an item, itself among them; or they and their distances."""
    @overload
    def get_nns_by_vector(
        self, vector: Any, n: int, search_k: int = -1, include_distances: Literal[False] = False
    ) -> list[int]: ...
    @overload
    def get_nns_by_vector(
        self, vector: Any, n: int, search_k: int, include_distances: Literal[True]
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_vector(
        self, vector: Any, n: int, search_k: int = -1, *, include_distances: Literal[True]
    ) -> tuple[list[int], list[float]]: ...
    @overload
    def get_nns_by_vector(
        self, vector: Any, n: int, search_k: int = -1, include_distances: bool = False
    ) -> list[int] | tuple[list[int], list[float]]:
        """The ``n`` nearest items to a vector; or they and their distances.

        ``search_k`` is how many items are looked at: -1 for ``recall``, -2 for all.
        """
    def nns_batch(
        self, vectors: Any, n: int, search_k: int = -1
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The nearest items to each row of an array, found by several threads.

        Returns:
            Ids and distances of (rows, n), or as wide as the longest answer; -1 and NaN where there
            is no hit.
        """
    def get_item_vector(self, i: int, /) -> list[float]:
        """The vector of an item; zeros if nothing has this id."""
    def get_distance(self, i: int, j: int, /) -> float:
        """The distance between two items in double precision; under "dot" their product."""
    def get_n_items(self) -> int:
        """One more than the highest id."""
    def get_n_trees(self) -> int:
        """As many as were asked for; 0 before the build."""
    def verbose(self, v: int, /) -> Literal[True]:
        """Whether builds tell on standard error what they did."""
    def set_seed(self, s: int, /) -> None:
        """The seed of the next builds. 0 is the default."""
    def __reduce__(self) -> Any: ...

def _annoy_add(index: AnnoyIndex, id: int, vector: Any) -> None: ...
def _annoy_file(index: AnnoyIndex) -> tuple[Path | None, int, bool]: ...
def _annoy_from_bytes(index: AnnoyIndex, bytes: bytes) -> None: ...
def _annoy_ids(index: AnnoyIndex) -> NDArray[np.int64]: ...
def _annoy_rows(index: AnnoyIndex, ids: Sequence[int]) -> NDArray[np.float32]: ...
def _annoy_seed(index: AnnoyIndex, seed: int | None) -> None: ...
def _annoy_to_bytes(index: AnnoyIndex) -> bytes: ...
