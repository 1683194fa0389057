"""An embedded, transactional store for nearest-neighbour search.

>>> import numpy as np, spinney, tempfile
>>> store = spinney.Store(tempfile.mkdtemp())
>>> docs = store.index("docs", dims=3, metric="cosine")
>>> docs.add([7, 8], np.eye(3, dtype=np.float32)[:2])
array([7, 8])
>>> ids, distances = docs.search(np.array([0.9, 0.1, 0.0], np.float32), k=1)
>>> ids
array([7])
"""

from spinney._errors import (
    BusyError,
    CancelledError,
    ClosedError,
    CorruptedError,
    Error,
    ForkedError,
    FormatError,
    InvalidOptionError,
    InvalidVectorError,
    MapFullError,
    MismatchError,
    NotFoundError,
    StorageError,
    StoreNotFoundError,
)
from spinney._native import (
    Collection,
    Hits,
    IdSet,
    Index,
    Labels,
    Snapshot,
    Stop,
    Store,
    WriteTxn,
    __version__,
)
from spinney._progress import tqdm
from spinney._records import (
    AuditEntry,
    Backup,
    BuildStats,
    Document,
    DocumentHit,
    Searched,
    StoreStats,
)

METRICS = ("cosine", "euclidean", "dot", "manhattan", "hamming")
"""The names of the metrics."""

__all__ = [
    "METRICS",
    "AuditEntry",
    "Backup",
    "BuildStats",
    "BusyError",
    "CancelledError",
    "ClosedError",
    "Collection",
    "CorruptedError",
    "Document",
    "DocumentHit",
    "Error",
    "ForkedError",
    "FormatError",
    "Hits",
    "IdSet",
    "Index",
    "InvalidOptionError",
    "InvalidVectorError",
    "Labels",
    "MapFullError",
    "MismatchError",
    "NotFoundError",
    "Searched",
    "Snapshot",
    "Stop",
    "StorageError",
    "Store",
    "StoreNotFoundError",
    "StoreStats",
    "WriteTxn",
    "__version__",
    "tqdm",
]
