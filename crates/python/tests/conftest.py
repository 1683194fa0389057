"""What the tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import spinney


@pytest.fixture
def store(tmp_path: Path) -> spinney.Store:
    return spinney.Store(tmp_path / "store", durability="none")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2021)


@pytest.fixture
def clustered() -> Callable[..., np.ndarray]:
    """Rows around a few centres: a forest finds neighbours without comparing all."""

    def rows(rng: np.random.Generator, count: int, dims: int) -> np.ndarray:
        centres = rng.standard_normal((count // 50 + 1, dims)) * 3
        of = rng.integers(len(centres), size=count)
        return (centres[of] + rng.standard_normal((count, dims))).astype(np.float32)

    return rows
