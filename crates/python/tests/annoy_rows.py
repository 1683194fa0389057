"""Indexes and rows for the tests of ``AnnoyIndex``."""

from __future__ import annotations

import numpy as np
from spinney.annoy import AnnoyIndex

METRICS = ("angular", "euclidean", "manhattan", "hamming", "dot")


def rows(metric: str, count: int, f: int = 8, seed: int = 5) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, f)).astype(np.float32)
    return (drawn > 0).astype(np.float32) if metric == "hamming" else drawn


def filled(metric: str, count: int = 50, f: int = 8, **options: bool) -> AnnoyIndex:
    index = AnnoyIndex(f, metric, **options)
    for item, row in enumerate(rows(metric, count, f)):
        index.add_item(item, row)
    return index


def built(metric: str, count: int = 50, f: int = 8, **options: bool) -> AnnoyIndex:
    index = filled(metric, count, f, **options)
    assert index.build(10) is True
    return index


def true_distances(metric: str, x: np.ndarray, q: np.ndarray) -> np.ndarray:
    x, q = x.astype(float), q.astype(float)
    if metric == "angular":
        norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(q)
        cos = np.divide(x @ q, norms, out=np.zeros_like(norms), where=norms > 0)
        return np.sqrt(np.maximum(0, 2 - 2 * cos))
    if metric == "dot":
        return x @ q
    if metric == "euclidean":
        return np.linalg.norm(x - q, axis=-1)
    return np.abs(x - q).sum(axis=-1)


def hasty(index: AnnoyIndex) -> list[list[int]]:
    """What searches find that look at little: it shows the forest."""
    return [index.get_nns_by_vector(q, 10, 1) for q in rows(index.metric, 100, seed=6)]
