"""Annoy's own tests, run against ours.

``SPINNEY_ANNOY_TESTS`` names the folder ``test`` of a checkout of Annoy. It is copied, as its tests
write beside themselves. Some of them take minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("SPINNEY_ANNOY_TESTS")
FILES = sorted(path.name for path in Path(FOLDER).glob("*_test.py")) if FOLDER else []
# It downloads its vectors.
NOT_RUN = {"accuracy_test.py"}
# It wants a file of 2 GiB for a hundred items.
EXCEPTIONS = "not very_large_index"
NO_TESTS = 5


@pytest.mark.timeout(3600)
@pytest.mark.skipif(FOLDER is None, reason="SPINNEY_ANNOY_TESTS names no folder of tests")
@pytest.mark.parametrize("name", [name for name in FILES if name not in NOT_RUN] or [""])
def test_annoys_own(name: str, tmp_path: Path) -> None:
    assert name, f"no tests are in {FOLDER}"
    shutil.copytree(str(FOLDER), tmp_path / "test")
    here = Path(__file__).parent
    # The tests import what they share from beside them.
    paths = os.pathsep.join([str(here), str(tmp_path / "test")])
    arguments = ["-p", "annoy_alias", "-p", "no:cacheprovider", "-q", "-k", EXCEPTIONS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, f"test/{name}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, NO_TESTS), done.stdout[-5000:] + done.stderr[-2000:]
