"""Makes a larger set of a real one, for the search comparison.

    python3 grow.py DIR SET ITEMS OUT

Reads DIR/SET/train.* and test.*, and writes OUT/SET/train.*, test.* and truth.ibin (the exact
neighbours). The rows of the real set come first. Each of the others is a + (b - c) / 2. Here a is a
row drawn at random, and b and c are two of its ten nearest neighbours. So it lies off a in a
direction in which the data vary there. Neighbourhoods keep their shape and their number of
dimensions while they grow denser. The same arguments give the same set.
"""

import os
import sys

import faiss
import numpy as np

NEIGHBOURS, TRUTH = 10, 100


def read(folder, part):
    path = os.path.join(folder, part)
    if os.path.exists(path + ".npy"):
        return np.load(path + ".npy").astype(np.float32)
    with open(path + ".u8bin", "rb") as file:
        rows, dims = np.fromfile(file, "<u4", 2)
        return np.fromfile(file, np.uint8).reshape(rows, dims).astype(np.float32)


def write(folder, part, rows, is_unit):
    path = os.path.join(folder, part)
    if is_unit:
        np.save(path + ".npy", rows.astype(np.float16))
        return rows.astype(np.float16).astype(np.float32)
    rows = np.clip(np.rint(rows), 0, 255).astype(np.uint8)
    with open(path + ".u8bin", "wb") as file:
        np.array(rows.shape, "<u4").tofile(file)
        rows.tofile(file)
    return rows.astype(np.float32)


def neighbours(rows, queries, count, is_unit):
    """The nearest rows of each query, compared exactly."""
    index = faiss.IndexFlatIP(rows.shape[1]) if is_unit else faiss.IndexFlatL2(rows.shape[1])
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True) if is_unit else x
    index.add(unit(rows))
    return index.search(unit(queries), count)


def near(rows, is_unit):
    """Ten near neighbours of each row; not quite the nearest will do."""
    lists = int(len(rows) ** 0.5)
    index = faiss.index_factory(rows.shape[1], f"IVF{lists},Flat", faiss.METRIC_L2)
    index.cp.seed = 1
    index.train(rows)
    index.add(rows)
    index.nprobe = 8
    return index.search(rows, NEIGHBOURS + 1)[1][:, 1:]


def main():
    source, name, items, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    rows, queries = (read(os.path.join(source, name), part) for part in ("train", "test"))
    is_unit = name == "minilm"
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    random = np.random.default_rng(1)
    near_rows = near(rows, is_unit)
    grown = [rows]
    while sum(map(len, grown)) < items:
        count = min(100_000, items - sum(map(len, grown)))
        at = random.integers(len(rows), size=count)
        two = np.argsort(random.random((count, NEIGHBOURS)), axis=1)[:, :2]
        b, c = near_rows[at, two[:, 0]], near_rows[at, two[:, 1]]
        more = rows[at] + (rows[b] - rows[c]) / 2
        grown.append(more / np.linalg.norm(more, axis=1, keepdims=True) if is_unit else more)
    grown = write(folder, "train", np.concatenate(grown)[:items], is_unit)
    queries = write(folder, "test", queries, is_unit)
    scores, ids = neighbours(grown, queries, TRUTH, is_unit)
    distances = 1 - scores if is_unit else np.sqrt(np.maximum(scores, 0))
    with open(os.path.join(folder, "truth.ibin"), "wb") as file:
        np.array(ids.shape, "<u4").tofile(file)
        ids.astype("<u4").tofile(file)
        distances.astype("<f4").tofile(file)


if __name__ == "__main__":
    main()
