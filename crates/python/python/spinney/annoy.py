"""Annoy's interface over indexes of spinney: a drop-in for the package ``annoy`` 1.17.3.

>>> from spinney.annoy import AnnoyIndex
>>> index = AnnoyIndex(3, "angular")
>>> index.add_item(0, [1.0, 0.0, 0.0])
>>> index.add_item(1, [0.0, 1.0, 0.0])
>>> index.build(10)
True
>>> index.get_nns_by_vector([0.9, 0.1, 0.0], 1)
[0]

Calls take, return and raise what Annoy's do. What is different:

- ``AnnoyIndex(f, metric, updatable=True)`` takes ``add_item``, ``delete_item`` and ``build`` also
  after a build, a save and a load. Changes stay with the object until it is saved.
- With ``search_k=-1`` a search aims at ``index.recall``, which can be set. One forest is built
  whatever ``n_trees`` says. It is remembered for ``get_n_trees``, and for searches for more than
  100 hits, which look at n * n_trees items.
- ``nns_batch`` searches for many vectors on threads.
- ``save`` replaces a file in one step, when the new one is whole. Who has the old one open keeps
  it.
- Files that Annoy saved are opened in place, and give Annoy's very answers. ``convert`` makes a
  file of ours of one, which can be updated.
- Paths may be ``os.PathLike``. A loaded index can be pickled, by its path. ``f`` cannot be set, and
  numbers that are not finite are a ``ValueError``.
- Files of Annoy's may come from anybody: nothing in them is trusted. LMDB trusts those of ours.

``Index`` is the index of scikit-plots.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from spinney._annoy_index import Index
from spinney._annoy_native import AnnoyIndex, _annoy_add, _annoy_ids, _annoy_rows

__all__ = ["AnnoyIndex", "Index", "convert"]

# Rows that are moved at once.
_CHUNK = 10_000


def convert(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    f: int,
    metric: str,
) -> AnnoyIndex:
    """Makes a file of ours of one that Annoy saved, and returns it loaded.

    ``old`` holds vectors of ``f`` numbers under ``metric``. ``new`` may be the same path: it is
    replaced when the new index is whole. The new index can be updated, and remembers as many trees.

    Raises:
        OSError: a file cannot be read or written, or holds other vectors.
        ValueError: the metric is unknown, or a vector has a number that is not finite.
    """
    source = AnnoyIndex(f, metric)
    source.load(old)
    index = AnnoyIndex(f, metric, updatable=True)
    index.on_disk_build(Path(new))
    ids = _annoy_ids(source)
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK].tolist()
        for item, row in zip(part, _annoy_rows(source, part), strict=True):
            _annoy_add(index, item, row)
    index.build(source.get_n_trees())
    index.unload()
    index.load(new)
    return index


def _reload(
    cls: type[AnnoyIndex],
    f: int,
    metric: str,
    path: Path,
    updatable: bool,
    recall: float | None,
) -> Any:
    """For pickles: the index of the file at this path."""
    index = cls(f, metric, updatable=updatable) if updatable else cls(f, metric)
    if recall is not None:
        index.recall = recall
    index.load(path)
    return index
