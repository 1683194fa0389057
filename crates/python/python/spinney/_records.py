"""Plain values that calls return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Searched:
    """What searches did: see the argument ``report``."""

    plan: str
    branches: int
    branch_sketches: int
    leaves: int
    sketches: int
    reranked: int
    scanned_exactly: int
    bytes: int
    is_partial: bool
    is_out_of_reach: bool


@dataclass(frozen=True, slots=True)
class BuildStats:
    """What a build did. ``method`` is "nothing", "bulk" or "incremental"."""

    method: str
    items: int
    trees: int
    items_added: int
    items_removed: int
    leaves: int
    branches: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Figures of a store. Ages are in seconds; the oldest reader is one of this process."""

    file_bytes: int
    page_bytes: int
    free_pages: int
    map_bytes: int
    last_commit: int
    pending: int
    readers: int
    oldest_reader_age: float | None
    oldest_reader_lag: int | None


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup wrote."""

    bytes: int
    txn_id: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a collection, without its vectors."""

    key: str | int | bytes
    payload: bytes
    labels: tuple[str, ...]
    vectors: int

    def json(self) -> Any:
        """The payload as a value, if it is JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class DocumentHit:
    """A document that a search found, with the distance of its nearest vector."""

    key: str | int | bytes
    distance: float
    payload: bytes | None

    def json(self) -> Any:
        """The payload as a value, if it is JSON and was asked for."""
        if self.payload is None:
            raise ValueError("the payload was not asked for: search with payload=True")
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What a commit did. ``changes`` are (action, name, count, keys); ``time`` is in seconds since
    1970."""

    sequence: int
    time: float
    actor: str | None
    changes: tuple[tuple[str, str, int, tuple[bytes | int, ...]], ...]
