"""What the native module takes beside float32 arrays, brought into that form."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from spinney._errors import InvalidVectorError

_NUMBERS = "fiub"


def rows(values: Any, dims: int, packed: bool = False) -> np.ndarray:
    """``values`` as an aligned float32 array of one or two axes.

    Takes arrays of any real dtype and layout, nested sequences, buffers and Arrow
    ``FixedSizeListArray``. ``packed`` rows are bits, eight to a byte, the lowest first.
    """
    if hasattr(getattr(values, "type", None), "list_size"):
        values = _of_arrow(values)
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
    if isinstance(values, (list, tuple)) and not values:
        # No rows, and not one vector without numbers.
        array = array.reshape(0, dims)
    if packed:
        if array.dtype != np.uint8:
            raise TypeError(f"packed vectors must be uint8, got dtype {array.dtype}")
        if array.shape[-1] != (dims + 7) // 8:
            raise InvalidVectorError(
                f"packed vectors of {dims} bits have {(dims + 7) // 8} bytes, got {array.shape[-1]}"
            )
        array = np.unpackbits(array, axis=-1, count=dims, bitorder="little")
    # What overflows becomes infinite, which is refused with its place.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.require(array, np.float32, ["C", "A"])


def _of_arrow(values: Any) -> np.ndarray:
    """The rows of a ``FixedSizeListArray``, or of a ``ChunkedArray`` of them."""
    if values.null_count:
        raise TypeError("rows that are null have no distance: leave them out")
    size = values.type.list_size
    chunks = getattr(values, "chunks", [values])
    rows = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, size) for chunk in chunks]
    return np.concatenate(rows) if rows else np.empty((0, size))


def ids(values: Any) -> np.ndarray:
    """``values`` as an array of ids, int64, of one axis. Nothing is rounded."""
    out_of_range = "ids must be from 0 to 4294967295"
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError("masked values are no ids: leave them out")
    if isinstance(values, range):
        if values and not 0 <= min(values[0], values[-1]) <= max(values[0], values[-1]) < 1 << 32:
            raise OverflowError(out_of_range)
        return np.arange(values.start, values.stop, values.step, dtype=np.int64)
    if isinstance(values, (str, bytes)):
        raise TypeError(f"ids must be whole numbers, got {type(values).__name__}")
    if hasattr(values, "__array__"):
        array = np.asarray(values)
    else:
        values = list(values)
        if set(map(type, values)) - {int}:
            # Numpy would make floats of signed and unsigned numbers.
            values = list(map(_index, values))
        try:
            array = np.array(values, np.int64)
        except OverflowError:
            raise OverflowError(out_of_range) from None
    if array.ndim != 1:
        raise TypeError(f"ids must have one axis, got {array.ndim}")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids must be whole numbers, got dtype {array.dtype}")
    if array.min() < 0 or array.max() > 0xFFFF_FFFF:
        raise OverflowError(out_of_range)
    return np.require(array, np.int64, ["C", "A"])


def _index(value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("ids must be whole numbers, got bool: a mask is an array of bools")
    return operator.index(value)


def groups(values: Any) -> np.ndarray:
    """The group of each id, as an int64 array."""
    array = np.asarray(values)
    if array.dtype.kind not in "iub" or array.ndim != 1:
        raise TypeError("group must be an array of whole numbers by id, or a function")
    return array.astype(np.int64)
