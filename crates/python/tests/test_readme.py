"""The programs of the READMEs and of the guide run as they stand there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parents[1]


@pytest.mark.parametrize("readme", [PACKAGE / "README.md", ROOT / "README.md"])
def test_its_programs_run(readme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.M | re.S)
    assert programs
    for program in programs:
        exec(compile(program, str(readme), "exec"), {})


def test_the_programs_of_the_guide_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    guide = ROOT / "docs/python.md"
    scope: dict[str, object] = {}
    run, left_out = 0, []
    for found in re.finditer(r"^```python\n(.*?)^```$", guide.read_text(), re.M | re.S):
        program = found[1]
        frameworks = re.findall(r"^from (sklearn|langchain_core)\b", program, re.M)
        if all(find_spec(name) for name in frameworks):
            line = guide.read_text()[:found.start(1)].count("\n")
            exec(compile("\n" * line + program, str(guide), "exec"), scope)
            run += 1
        else:
            left_out += frameworks
    # The tests of frameworks run in an environment of their own.
    assert run >= 10 and set(left_out) <= {"sklearn", "langchain_core"}
