"""What the native module takes beside float32 arrays, brought into that form."""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS = "fiub"


def rows(values: Any, dims: int, packed: bool = False) -> np.ndarray:
    """``values`` as an aligned float32 array of one or two axes.

    Takes arrays of any real dtype and layout, nested sequences, buffers and Arrow
    ``FixedSizeListArray``. ``packed`` rows are bits, eight to a byte, the lowest first.
    """
    flatten = getattr(values, "flatten", None)
    if flatten is not None and hasattr(getattr(values, "type", None), "list_size"):
        size = values.type.list_size
        values = flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    if hasattr(values, "tocsr"):
        raise TypeError("sparse matrices cannot be searched: pass rows.toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError("masked values have no distance: fill them with numbers, or leave the rows out")
    if isinstance(values, memoryview) and values.format in ("B", "b", "c"):
        raise TypeError("bytes have no dtype: pass numpy.frombuffer(values, dtype)")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"vectors must be rows of equally many numbers: {error}") from None
    if array.dtype.kind not in _NUMBERS and not (array.size == 0 and array.dtype.kind == "O"):
        raise TypeError(f"vectors must be real numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise TypeError(f"vectors must have one axis or two, got {array.ndim}")
    if packed:
        if array.dtype != np.uint8:
            raise TypeError(f"packed vectors must be uint8, got dtype {array.dtype}")
        array = np.unpackbits(array, axis=-1, count=dims, bitorder="little")
    # What overflows becomes infinite, which is refused with its place.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.require(array, np.float32, ["C", "A"])


def ids(values: Any) -> np.ndarray:
    """``values`` as an array of ids, int64, of one axis. Nothing is rounded."""
    if isinstance(values, range):
        array = np.arange(values.start, values.stop, values.step, dtype=np.int64)
    else:
        if isinstance(values, (set, frozenset)) or not hasattr(values, "__len__"):
            values = list(values)
        array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind == "O":
        if not all(isinstance(value, (int, np.integer)) for value in array.flat):
            raise TypeError("ids must be whole numbers")
        raise OverflowError("ids must be from 0 to 4294967295")
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids must be whole numbers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise TypeError(f"ids must have one axis, got {array.ndim}")
    if array.min() < 0 or array.max() > 0xFFFF_FFFF:
        raise OverflowError("ids must be from 0 to 4294967295")
    return np.require(array, np.int64, ["C", "A"])


def groups(values: Any) -> np.ndarray:
    """The group of each id, as an int64 array."""
    array = np.asarray(values)
    if array.dtype.kind not in "iub" or array.ndim != 1:
        raise TypeError("group must be an array of whole numbers by id, or a function")
    return array.astype(np.int64)
