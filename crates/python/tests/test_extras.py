"""Modules for frameworks, where the framework is not installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize(("module", "framework"), [
    ("sklearn", "sklearn"), ("langchain", "langchain_core"),
])
def test_the_error_says_what_to_install(module, framework):
    code = f"""
        import sys
        sys.modules["{framework}"] = None
        import spinney, spinney.aio
        try:
            import spinney.{module}
        except ImportError as error:
            assert "pip install spinney[{module}]" in str(error), error
        else:
            sys.exit("imported")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
