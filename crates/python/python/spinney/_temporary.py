"""Folders that live as long as an object."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any


def folder_of(owner: object) -> tuple[Path, weakref.finalize[Any, Any]]:
    """A new folder, and what deletes it: called, or when ``owner`` goes away."""
    path = Path(tempfile.mkdtemp(prefix="spinney-"))
    return path, weakref.finalize(owner, _delete, path, os.getpid())


def _delete(path: Path, pid: int) -> None:
    # A forked child leaves the folder to its parent.
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
