"""What can go wrong. Every class is an ``Error`` and one of Python's own kinds, too."""

from __future__ import annotations


class Error(Exception):
    """The base of all errors of spinney. The message says what to do next."""


class InvalidVectorError(Error, ValueError):
    """A vector does not suit the index: its length, or a number in it.

    Where it is known, ``row`` and ``position`` say which number.
    """


class InvalidOptionError(Error, ValueError):
    """An option has a value outside its range, or does not go together with another."""


class MismatchError(Error, ValueError):
    """Something was created with another metric, another number of dimensions, or other options."""


class NotFoundError(Error, LookupError):
    """There is no such index, item or document."""


class StorageError(Error, OSError):
    """LMDB or the system refused an operation. ``errno`` is the system's, if it has one."""


class StoreNotFoundError(StorageError, FileNotFoundError):
    """There is no store at the path, and none was to be created."""


class MapFullError(StorageError):
    """The store is as large as its ``map_size`` allows."""


class CorruptedError(Error, RuntimeError):
    """Stored bytes are damaged. ``verify`` tells what, and ``repair`` rebuilds an index."""


class FormatError(Error, RuntimeError):
    """The file was written by a newer version, or is somebody else's."""


class CancelledError(Error):
    """A build was stopped by its ``progress`` function. Nothing of it was written."""


class BusyError(Error, TimeoutError):
    """Others hold what is needed: the write transaction, readers, or the store itself."""


class ForkedError(Error, RuntimeError):
    """The store was opened before the fork, by the parent of this process."""


class ClosedError(Error, ValueError):
    """The store, snapshot or transaction was closed, or is still in use and cannot be."""
