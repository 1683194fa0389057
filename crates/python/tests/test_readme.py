"""The programs of the READMEs run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]


@pytest.mark.parametrize("readme", [PACKAGE / "README.md", PACKAGE.parents[1] / "README.md"])
def test_its_programs_run(readme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.M | re.S)
    assert programs
    for program in programs:
        exec(compile(program, str(readme), "exec"), {})
