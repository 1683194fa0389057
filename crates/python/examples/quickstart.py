"""A store of the passages that come with spinney: filled, searched, changed, opened again.

    python examples/quickstart.py [FOLDER]

Without a folder the store is a temporary one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import spinney

DATA = Path(__file__).parents[3] / "examples" / "data"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        show(Path(sys.argv[1] if len(sys.argv) > 1 else folder) / "library")


def show(path: Path) -> None:
    texts = (DATA / "passages.txt").read_text().splitlines()
    vectors = rows_of(DATA / "passages.i8bin")

    with spinney.Store(path) as store:
        passages = store.collection("passages", vectors.shape[1], "cosine", keys="int")
        labels = [["short" if len(text) < 100 else "long"] for text in texts]
        # One transaction: all are committed, or none.
        passages.put_many(range(len(texts)), vectors, texts, labels)
        print(f"{len(passages)} passages, {passages.labels()}\n")

        print(f"Near to: {texts[1717]}")
        for hit in passages.search_key(1717, 3, labelled="short", payload=True):
            print(f"  {hit.distance:.3f}  {hit.payload.decode()}")

        questions = (DATA / "queries.txt").read_text().splitlines()[:2]
        answers = passages.search(rows_of(DATA / "queries.i8bin")[:2], 2, recall=0.99)
        for question, hits in zip(questions, answers, strict=True):
            print(f"\nNear to: {question[:80]}")
            for hit in hits:
                print(f"  {hit.distance:.3f}  {texts[hit.key][:80]}")

        nearest = passages.search_key(1717, 1, labelled="short")[0].key
        with store.write() as txn:
            txn.delete(passages, nearest)
            txn.put(passages, 1_000_000, vectors[1717], "a keel of one's own", ["short", "mine"])
        print(f"\n{nearest} is gone, and there is a new one.")

    with spinney.Store(path) as store:
        passages = store.collection("passages", keys="int")
        hit = passages.search(vectors[1717], 1, labelled="mine", payload=True)[0]
        print(f"Opened again, it has {len(passages)}: {hit.key} is {hit.payload.decode()!r}.")


def rows_of(file: Path) -> np.ndarray:
    """The vectors of a file. After 8 bytes come rows of a scale and 384 numbers of a byte."""
    rows = np.fromfile(file, np.dtype([("scale", "<f4"), ("numbers", "i1", 384)]), offset=8)
    return rows["scale"][:, None] * rows["numbers"]


if __name__ == "__main__":
    main()
