"""The parameters of ``spinney.annoy.Index`` and what they can be."""

from __future__ import annotations

import base64
import binascii
import operator
import os
import warnings
from typing import Any

import numpy as np

_METRICS = {
    "angular": ("angular", "cosine"),
    "euclidean": ("euclidean", "l2", "lstsq"),
    "manhattan": ("manhattan", "l1", "cityblock", "taxicab"),
    "dot": ("dot", "@", ".", "dotproduct", "inner", "innerproduct"),
    "hamming": ("hamming",),
}
ALIASES = {alias: name for name, aliases in _METRICS.items() for alias in aliases}
_STORED = ("float16", "float32")
_ROUNDED = ("float64", "float80", "float128")
LIMITS = {"int32": 2**31 - 1, "int64": 2**32 - 1}
_UNSIGNED = ("uint32", "uint64")
# The newest form of a state that is known here.
SCHEMA = 0
PARAMS = (
    "f",
    "metric",
    "n_neighbors",
    "on_disk_path",
    "prefault",
    "seed",
    "verbose",
    "schema_version",
    "dtype",
    "index_dtype",
    "wrapper_dtype",
    "random_dtype",
)


def _dtype(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    given = value if isinstance(value, str) else np.dtype(value).name
    if given not in allowed:
        raise ValueError(f"{name} takes {' or '.join(allowed)}, got {given!r}")
    return given


def check_names(params: dict[str, Any]) -> None:
    """An error if one of the names is no parameter's."""
    for name in params:
        if name not in PARAMS:
            raise ValueError(f"{name!r} is no parameter: there are {', '.join(PARAMS)}")


def decoded(text: str) -> bytes:
    """The bytes that a text in base64 stands for."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"the data is not in base64: {error}") from error


def checked(name: str, value: Any) -> Any:
    """The value in its plain form. An error if the parameter cannot take it."""
    if name == "n_neighbors":
        if operator.index(value) < 1:
            raise ValueError(f"n_neighbors takes 1 or more, got {value}")
        return operator.index(value)
    if name == "on_disk_path":
        return None if value is None else os.fspath(value)
    if name == "prefault":
        return bool(value)
    if name == "seed":
        if value is None:
            return None
        if not 0 <= operator.index(value) < 2**64:
            raise ValueError(f"seed takes 0 to 2**64 - 1, got {value}")
        if value == 0:
            warnings.warn("a seed of 0 stands for the default seed", UserWarning, stacklevel=5)
            return None
        return operator.index(value)
    if name == "verbose":
        return None if value is None else max(-2, min(2, operator.index(value)))
    if name == "schema_version":
        if operator.index(value) < 0:
            raise ValueError(f"schema_version takes 0 or more, got {value}")
        return operator.index(value)
    if name == "dtype":
        given = _dtype(name, value, _STORED + _ROUNDED)
        if given in _ROUNDED:
            warnings.warn(f"{given} is stored as float32", UserWarning, stacklevel=5)
        return given
    if name == "index_dtype":
        return _dtype(name, value, tuple(LIMITS))
    return _dtype(name, value, _UNSIGNED)
