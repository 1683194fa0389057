# %% [markdown]
# A tour of spinney: each cell runs on its own after those above it, in an editor that knows `# %%`
# cells, in Jupyter by way of jupytext, or all at once by `python tour.py`.

# %% A store, an index, and vectors in it
import asyncio
import pickle
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np

import spinney
import spinney.aio

folder = Path(tempfile.mkdtemp())
store = spinney.Store(folder / "store", durability="none")  # "full" where data is to be kept
rng = np.random.default_rng(5)
centres = 3 * rng.standard_normal((40, 32))
vectors = (centres[rng.integers(40, size=4000)] + rng.standard_normal((4000, 32))).astype("f4")

items = store.index("items", dims=32, metric="euclidean")
items.add(range(4000), vectors)
print(items, len(items), store.indexes())

# %% One query gives arrays of one axis, several give rows
hits = items.search(vectors[17], k=5)
ids, distances = hits
print(ids, distances.round(2))
print(items.search(vectors[:3], k=2).ids)

# %% How well, and what it took
rough = items.search(vectors[:200], 10, recall=0.7, report=True)
exact = items.search(vectors[:200], 10, exact=True)
print("recall", np.mean([np.isin(a, b).mean() for a, b in zip(exact.ids, rough.ids, strict=True)]))
print(rough.report)

# %% Other questions: items as queries, any of several, like these and unlike those
print(items.search_items([17, 18], 3).ids)
print(items.search_any([17, vectors[99]], 4).ids)
print(items.search_like(positive=[17, 18], negative=[99], k=3).ids)
print(items.search(vectors[17], 100, within=6.5).distances.max())
pages = items.pages(vectors[17], page=10)
print(next(pages).ids[0], next(pages).ids[0])
del pages  # it holds its commit, as a snapshot does

# %% Filters: sets, ids, masks, functions; and groups
even = spinney.IdSet(range(0, 4000, 2))
print(items.search(vectors[17], 3, allowed=even).ids)
print(items.search(vectors[17], 3, allowed=even & range(100)).ids)
print(items.search(vectors[17], 3, allowed=np.arange(4000) % 3 == 0).ids)
print(items.search(vectors[17], 3, predicate=lambda i: i > 2000).ids)
print(items.search(vectors[17], 3, group=np.arange(4000) % 10, per_group=1).ids)

# %% Transactions: all or nothing. A snapshot stays as it is
before = store.read()
with store.write() as txn:
    txn.delete(items, range(10))
    new = txn.add(items, None, vectors[:2] + 10)  # ids after the highest
    txn.build(items)
    print(new, txn.len(items))
print(len(items), len(before[items]), before.age < 60)
before.close()
try:
    with store.write() as txn:
        txn.clear(items)
        raise RuntimeError("no")
except RuntimeError:
    print("undone:", len(items))

# %% Builds: options, progress, and a stop
phases = []
stats = items.build(rebuild=True, seed=3, threads=2,
                    progress=lambda phase, done, total: phases.append(phase))
print(stats.method, stats.items, sorted(set(phases)))
try:
    items.build(rebuild=True, progress=lambda *_: False)
except spinney.CancelledError as error:
    print(error)

# %% Queries that are unlike the items; vectors stored in less room
with store.write() as txn:
    txn.calibrate(items, rng.standard_normal((500, 32)))
half = store.index("half", 32, "cosine", storage="f16")
half.add(range(1000), vectors[:1000])
print(half.storage, np.abs(half[7] - vectors[7]).max() < 0.01)

# %% Collections: documents under keys, with payload and labels
books = store.collection("books", 32, "cosine", keys="str")
books.put("moby-dick", vectors[0], {"title": "Moby-Dick"}, ["lang:en", "sea"])
books.put_many(["faust", "inferno", "odyssey"], vectors[1:4],
               [{"title": title} for title in ("Faust", "Inferno", "Odyssey")],
               [["lang:de"], ["lang:it"], ["lang:grc", "sea"]])
print(books["faust"].json(), books.keys("f"), books.labels())
at_sea = spinney.Labels("sea") & ~spinney.Labels("lang:en")
for hit in books.search(vectors[0], 5, labelled=at_sea, payload=True):
    print(hit.key, round(hit.distance, 3), hit.json())
print([hit.key for hit in books.search_key("faust", 2)], books.count(spinney.Labels.any("sea")))

# %% A view of what bears a label, and nothing else
english = books.scoped("lang:en")
print(list(english), english.get("faust"))
english.put("emma", vectors[5])
print(books["emma"].labels, books.delete_where("lang:de"), list(books))

# %% Threads share a store; a batch is shared among threads
answers = {}


def ask(n: int) -> None:
    answers[n] = items.search(vectors[n], 1).ids[0]


threads = [threading.Thread(target=ask, args=(n,)) for n in range(20, 24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(all(n == found for n, found in answers.items()), len(answers))
print(items.search(vectors[:1000], 10, threads=2).ids.shape)

# %% Time limits and stops
print(items.search(vectors, 10, timeout=0).is_partial)
stop = spinney.Stop()
stop.set()
print(items.search(vectors[0], 10, stop=stop).is_partial)

# %% asyncio (in a notebook, `await main()`)
async def main() -> list[int]:
    async with spinney.aio.open(folder / "async") as opened:
        index = await opened.index("items", 32, "euclidean")
        async with opened.write() as writing:
            await writing.add(index, range(100), vectors[:100])
        found = await asyncio.gather(*(index.search(vectors[n], 1) for n in range(5)))
        return [int(hits.ids[0]) for hits in found]


print(asyncio.run(main()))

# %% Handles are pickled by path; sets of ids in the portable format of Roaring bitmaps
again = pickle.loads(pickle.dumps(items))
print(again == items, spinney.IdSet.from_bytes(even.to_bytes()) == even)

# %% Errors say what to do
for wrong in (lambda: items.search([1.0]), lambda: items[7], lambda: store.index("none"),
              lambda: items.search(vectors[0], recall=2), lambda: store.index("items", 3, "dot")):
    try:
        wrong()
    except spinney.Error as error:
        print(type(error).__name__, "-", error)

# %% Care: figures, backup, checks, the audit log
store.set_audit(True)
store.acting_as("ann").index("items").delete([500])
entry = store.audit_log()[-1]
print(entry.actor, entry.changes)
print(store.stats().pending, store.backup(folder / "backup.mdb", compact=True).bytes > 0)
restored = spinney.Store.restore(folder / "backup.mdb", folder / "restored")
print(len(restored.index("items")), restored.verify())
restored.close()
store.rename("half", "halves")
print(store.drop("halves"), store.indexes())

# %% scikit-learn, if it is installed: `pip install spinney[sklearn]`
try:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    from spinney.sklearn import SpinneyTransformer
except ImportError as error:
    print(error)
else:
    classes = (vectors[:1000] @ vectors[0] > 0).astype(int)
    pipeline = make_pipeline(SpinneyTransformer(10), KNeighborsClassifier(5, metric="precomputed"))
    print(pipeline.fit(vectors[:800], classes[:800]).score(vectors[800:1000], classes[800:]) > 0.8)

# %% The end
store.close()
shutil.rmtree(folder)
print(store)
