"""Types of arguments, for annotations. Nothing here is needed to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from spinney._native import IdSet, Labels, Stop

Key: TypeAlias = str | int | bytes
Metric: TypeAlias = Literal["cosine", "euclidean", "dot", "manhattan", "hamming"]
Storage: TypeAlias = Literal["f32", "f16", "i8", "bits"]
StrPath: TypeAlias = str | PathLike[str]
Progress: TypeAlias = Callable[[str, int, int], bool | None]

class _Serializes(Protocol):
    def serialize(self) -> bytes: ...

Ids: TypeAlias = SupportsIndex | Iterable[SupportsIndex] | NDArray[np.integer[Any]]
Allowed: TypeAlias = "IdSet | Iterable[SupportsIndex] | NDArray[np.bool_] | _Serializes"
Filter: TypeAlias = "str | Labels"

class _Common(TypedDict, total=False):
    recall: float | None
    search_k: int | None
    oversampling: float | None
    exact: bool
    within: float | None
    beyond: float | None
    timeout: float | None
    packed: bool
    stop: Stop | None

class HowPages(_Common, total=False):
    """Options of ``pages`` and ``neighbours`` of an index: see ``How``.

    ``timeout`` is that of each search, and pages end with one that was stopped.
    """

    allowed: Allowed | None
    predicate: Callable[[int], object] | None

class How(HowPages, total=False):
    """Options of searches in an index.

    recall: the share of the true neighbours to aim at, above 0 and at most 1 (0.95).
    search_k: how many sketches to look at, instead of ``recall``.
    oversampling: candidates compared exactly, as a multiple of what ``recall`` needs.
    exact: compares all items.
    within, beyond: only items at most, or more than, this far away.
    allowed: only items of this set: an ``IdSet``, ids, a mask by id, or a bitmap of pyroaring.
    predicate: only items for whose id it returns true. It costs a call of Python each.
    group: an array of groups by id, or a function of an id; ``per_group`` hits of each at most.
    timeout: seconds, after which the search ends with what it has.
    threads: how many share a batch.
    report: whether ``Hits.report`` says what was done.
    packed: queries are rows of ``numpy.packbits(..., bitorder="little")``.
    stop: ends the search from another thread.
    """

    threads: int | None
    report: bool
    group: ArrayLike | Callable[[int], int] | None
    per_group: int

class HowDocumentPages(_Common, total=False):
    """Options of ``pages`` and ``neighbours`` of a collection: see ``HowDocuments``."""

    labelled: Filter | None
    payload: bool
    predicate: Callable[[Any], object] | None

class HowDocuments(HowDocumentPages, total=False):
    """Options of searches in a collection: as ``How``, and by labels instead of ids.

    labelled: only documents that this filter means.
    payload: whether hits have the payload of their document.
    predicate: only documents for whose key it returns true.
    group: a function of a key; ``per_group`` documents of each group at most.
    """

    threads: int | None
    group: Callable[[Any], int] | None
    per_group: int

class BuildOptions(TypedDict, total=False):
    """Options of builds.

    trees: of the forest (1). spill: whether items are in a second leaf, too.
    leaf_size: entries of a leaf. sketch_bits: bits a dimension of a sketch.
    seed: of what is chosen at random. rebuild: anew, whatever has changed.
    memory: bytes to keep to, at more time. temp_dir: for files of such builds. threads: to use.
    """

    trees: int | None
    spill: bool | None
    leaf_size: int | None
    sketch_bits: int | None
    seed: int | None
    rebuild: bool
    memory: int | None
    temp_dir: StrPath | None
    threads: int | None
