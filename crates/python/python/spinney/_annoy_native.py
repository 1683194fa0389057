"""What the native module has for ``spinney.annoy``."""

from spinney._native import (
    AnnoyIndex,
    _annoy_add,
    _annoy_file,
    _annoy_from_bytes,
    _annoy_ids,
    _annoy_rows,
    _annoy_seed,
    _annoy_to_bytes,
)

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
