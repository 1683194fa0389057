"""The examples, the benchmark and the documents: each program in them runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(program: Path, *args: str, folder: Path) -> str:
    """What a program prints, in a folder of its own."""
    done = subprocess.run(
        [sys.executable, program, *args], cwd=folder, capture_output=True, text=True, timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_benchmark_of_calls(tmp_path):
    printed = run(ROOT / "benches/overhead.py", "--rounds", "1", "--items", "500", folder=tmp_path)
    for part in ("spinney, array", "spinney, 2 threads", "during a build"):
        assert part in printed
    for other in ("hnswlib", "annoy"):
        # Beside the others, or with a word of what is missing.
        assert f"{other}, " in printed or f"{other} is not installed" in printed


def test_quickstart(tmp_path):
    printed = run(ROOT / "examples/quickstart.py", str(tmp_path / "kept"), folder=tmp_path)
    assert "10000 passages, {'long': 6287, 'short': 3713}" in printed
    assert "0.425  schooner" in printed and "1000000 is \"a keel of one's own\"" in printed
    assert (tmp_path / "kept/library/data.mdb").exists()


def test_serving(tmp_path):
    printed = run(ROOT / "examples/serving.py", "--self-test", folder=tmp_path)
    assert printed == "all answers were right\n"


def test_tour(tmp_path):
    printed = run(ROOT / "examples/tour.py", folder=tmp_path)
    for part in ("undone: 3992", "InvalidOptionError", "odyssey", "[0, 1, 2, 3, 4]", "closed)"):
        assert part in printed
