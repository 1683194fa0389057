"""A plugin of pytest: what is imported as ``annoy`` is ``spinney.annoy``."""

import sys

import spinney.annoy

sys.modules["annoy"] = spinney.annoy
