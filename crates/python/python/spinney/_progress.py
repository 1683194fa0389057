"""Progress of builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def tqdm(bar: Any) -> Callable[[str, int, int], None]:
    """A ``progress`` function that shows a build on a bar of tqdm.

    The bar begins anew with each phase of the build.
    """
    phase = ""

    def progress(name: str, done: int, total: int) -> None:
        nonlocal phase
        if name != phase:
            phase = name
            bar.reset(total=total)
            bar.set_description(name)
        bar.total = total
        bar.update(done - bar.n)

    return progress
