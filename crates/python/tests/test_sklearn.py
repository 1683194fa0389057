"""The transformer for scikit-learn, beside its own of exact neighbours."""

from __future__ import annotations

import copy
import doctest
import gc
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.cluster import DBSCAN  # noqa: E402
from sklearn.datasets import load_digits, make_blobs  # noqa: E402
from sklearn.manifold import TSNE, Isomap, trustworthiness  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import spinney  # noqa: E402
from spinney.sklearn import SpinneyTransformer  # noqa: E402

METRICS = ["euclidean", "cosine", "manhattan", "hamming"]


def samples_of(metric: str, count: int = 600) -> np.ndarray:
    X, _ = make_blobs(count, 24, centers=12, cluster_std=3.0, random_state=21)
    return (X > 0).astype(np.float64) if metric == "hamming" else X


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_check_estimator():
    results = check_estimator(SpinneyTransformer(), on_fail=None, on_skip=None)
    assert len(results) > 30
    other = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    # With an exact transformer of its own, scikit-learn skips the same.
    exact = check_estimator(KNeighborsTransformer(), on_fail=None, on_skip=None)
    assert set(other) <= {r["check_name"] for r in exact if r["status"] == "skipped"}, other
    assert all(r["status"] == "skipped" for r in results if r["check_name"] in other)


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("metric", METRICS)
def test_graphs_are_those_of_scikit_learn(metric, mode):
    X = samples_of(metric)
    others = 1 - X[:50] if metric == "hamming" else X[:50] + 0.1
    ours = SpinneyTransformer(7, mode=mode, metric=metric, recall=1.0)
    exact = KNeighborsTransformer(mode=mode, n_neighbors=7, metric=metric, algorithm="brute")
    for graph, truth in [
        (ours.fit_transform(X), exact.fit_transform(X)),
        (ours.transform(others), exact.transform(others)),
    ]:
        assert graph.format == "csr" and graph.dtype == np.float64 and graph.shape == truth.shape
        assert (np.diff(graph.indptr) == 7 + (mode == "distance")).all()
        rows, wanted = graph.shape[0], graph.nnz // graph.shape[0]
        found = graph.data.reshape(rows, wanted)
        assert (np.diff(found, axis=1) >= 0).all()
        # Of neighbours that are equally far, either may be found.
        expected = np.sort(truth.data.reshape(rows, wanted), axis=1)
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_recall_is_aimed_at(metric):
    X = samples_of(metric, 3000)
    ours = SpinneyTransformer(10, metric=metric, recall=0.95, random_state=3).fit(X)
    exact = KNeighborsTransformer(n_neighbors=10, metric=metric, algorithm="brute").fit(X)
    distances, ids = ours.kneighbors(X[:300])
    limit = exact.kneighbors(X[:300])[0][:, -1:]
    assert ids.dtype == np.int64 and distances.shape == (300, 10)
    assert (distances <= limit + 1e-5).mean() >= 0.9


def test_samples_are_their_own_first_neighbours_in_graphs_and_never_in_lists():
    X = np.repeat(samples_of("euclidean", 200), 2, axis=0)
    ours = SpinneyTransformer(5)
    graph = ours.fit_transform(X)
    assert (graph.indices.reshape(400, 6)[:, 0] == np.arange(400)).all()
    assert (graph.diagonal() == 0).all()
    distances, ids = ours.kneighbors()
    assert (ids != np.arange(400)[:, None]).all() and ids.shape == (400, 5)
    assert (distances[:, 0] == 0).all() and (ids[:, 0] == np.arange(400) ^ 1).all()
    assert (ours.kneighbors(n_neighbors=2, return_distance=False) == ids[:, :2]).all()
    one = SpinneyTransformer(1, mode="connectivity").fit_transform(X)
    assert (one.toarray() == np.eye(400)).all()
    assert (ours.kneighbors_graph(X[:3], 4).toarray().sum(axis=1) == 4).all()
    assert ours.kneighbors_graph(mode="distance").nnz == 400 * 5


def test_classifier_in_a_pipeline():
    X, y = load_digits(return_X_y=True)
    scores = []
    for transformer in (SpinneyTransformer(10, recall=0.99), KNeighborsTransformer(n_neighbors=10)):
        classifier = KNeighborsClassifier(5, metric="precomputed")
        pipeline = make_pipeline(transformer, classifier).fit(X[:1300], y[:1300])
        scores.append(pipeline.score(X[1300:], y[1300:]))
    assert scores[0] > 0.9 and abs(scores[0] - scores[1]) < 0.01, scores


def test_dbscan_in_a_pipeline():
    X, truth = make_blobs(900, 8, centers=6, cluster_std=0.4, random_state=5)
    labels = [
        make_pipeline(transformer, DBSCAN(1.2, min_samples=5, metric="precomputed")).fit_predict(X)
        for transformer in (SpinneyTransformer(30), KNeighborsTransformer(n_neighbors=30))
    ]
    assert len(set(truth)) == 6 == len(set(labels[0][labels[0] >= 0]))
    assert (labels[0] == labels[1]).mean() > 0.98


def test_manifolds_in_pipelines():
    X, y = load_digits(n_class=4, return_X_y=True)
    for last in (
        lambda: Isomap(n_neighbors=10, n_components=2, metric="precomputed"),
        lambda: TSNE(perplexity=10, metric="precomputed", init="random", random_state=1,
                     max_iter=300),
    ):
        trusts = [
            trustworthiness(X, make_pipeline(transformer, last()).fit_transform(X), n_neighbors=10)
            for transformer in (SpinneyTransformer(31), KNeighborsTransformer(n_neighbors=31))
        ]
        assert trusts[0] > 0.8 and abs(trusts[0] - trusts[1]) < 0.05, trusts


def test_names_and_sizes():
    X = samples_of("euclidean", 40)
    ours = SpinneyTransformer().fit(X)
    assert (ours.n_samples_fit_, ours.n_features_in_) == (40, 24)
    names = ours.get_feature_names_out()
    assert len(names) == 40 and names[3] == "spinneytransformer3"
    assert clone(ours).set_params(n_neighbors=3, metric="cosine").get_params() == {
        "n_neighbors": 3, "mode": "distance", "metric": "cosine", "recall": 0.95,
        "random_state": None, "n_jobs": None, "path": None,
    }


@pytest.mark.parametrize("jobs", [None, 1, 2, -1])
def test_the_same_samples_give_the_same_graph(jobs):
    X = samples_of("euclidean", 2000)
    graphs = [SpinneyTransformer(random_state=7, n_jobs=n).fit_transform(X) for n in (None, jobs)]
    assert (graphs[0] != graphs[1]).nnz == 0


@pytest.mark.parametrize(("options", "error"), [
    ({"n_neighbors": 0}, ValueError), ({"n_neighbors": 1.5}, TypeError),
    ({"mode": "x"}, ValueError),
    ({"metric": "dot"}, ValueError), ({"recall": 0.0}, ValueError), ({"recall": 2}, ValueError),
])
def test_parameters_out_of_range(options, error, temporary):
    with pytest.raises(error):
        SpinneyTransformer(**options).fit(samples_of("euclidean", 20))
    assert not list(temporary.iterdir())


def test_what_cannot_be_fitted_leaves_nothing(temporary):
    with pytest.raises(spinney.InvalidVectorError):
        SpinneyTransformer(metric="cosine").fit(np.zeros((9, 2)))
    with pytest.raises(spinney.InvalidVectorError):
        SpinneyTransformer(metric="hamming").fit(np.full((9, 2), 3))
    gc.collect()
    assert not list(temporary.iterdir())
    ours = SpinneyTransformer().fit(samples_of("euclidean", 5))
    for wrong in (lambda: ours.kneighbors(n_neighbors=5), lambda: ours.kneighbors([[0.0] * 24], 6),
                  lambda: ours.kneighbors_graph(mode="x", n_neighbors=1),
                  lambda: ours.fit_transform(samples_of("euclidean", 5))):
        with pytest.raises(ValueError):
            wrong()


def test_a_temporary_store_goes_with_its_estimator(temporary):
    ours = SpinneyTransformer().fit(samples_of("euclidean"))
    first = set(temporary.iterdir())
    assert len(first) == 1
    ours.fit(samples_of("euclidean", 50))
    assert len(list(temporary.iterdir())) == 1 and first != set(temporary.iterdir())
    twin = copy.deepcopy(ours)
    assert len(list(temporary.iterdir())) == 2
    del ours
    gc.collect()
    assert len(list(temporary.iterdir())) == 1
    assert twin.kneighbors()[1].shape == (50, 5)
    del twin
    gc.collect()
    assert not list(temporary.iterdir())


def test_a_forked_child_leaves_the_store_to_its_parent(temporary):
    ours = SpinneyTransformer().fit(samples_of("euclidean"))
    code = """
        import gc, os, sys
        import numpy as np
        from spinney.sklearn import SpinneyTransformer
        ours = SpinneyTransformer().fit(np.random.default_rng(1).random((50, 3)))
        child = os.fork()
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert ours._forget.alive and os.path.isdir(ours._forget.peek()[2][0])
        assert ours.kneighbors()[1].shape == (50, 5)
    """
    env = os.environ | {"TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=env, timeout=100)
    # That of the child process went at its end.
    assert len(list(temporary.iterdir())) == 1
    assert ours.kneighbors()[1].shape == (600, 5)


def test_pickles_hold_the_samples(temporary):
    X = samples_of("cosine")
    ours = SpinneyTransformer(metric="cosine").fit(X)
    truth = ours.transform(X[:20]).toarray()
    data = pickle.dumps(ours)
    assert len(data) > X.astype(np.float32).nbytes
    del ours
    gc.collect()
    assert not list(temporary.iterdir())
    again = pickle.loads(data)
    assert (again.transform(X[:20]).toarray() == truth).all()
    assert pickle.loads(pickle.dumps(SpinneyTransformer(3))).n_neighbors == 3


def test_with_a_path_pickles_hold_the_path(tmp_path):
    X = samples_of("manhattan")
    ours = SpinneyTransformer(metric="manhattan", path=tmp_path / "samples").fit(X)
    data = pickle.dumps(ours)
    assert len(data) < 4000
    again = pickle.loads(data)
    assert (again.transform(X[:20]) != ours.transform(X[:20])).nnz == 0
    # The file outlives the estimators, and another one may take it over.
    del ours, again
    gc.collect()
    assert len(spinney.Store(tmp_path / "samples").index("samples")) == 600
    fresh = SpinneyTransformer(path=tmp_path / "samples").fit(X[:90, :5])
    assert fresh.kneighbors()[1].shape == (90, 5) and fresh.n_features_in_ == 5


def test_doctests():
    failed, tried = doctest.testmod(sys.modules[SpinneyTransformer.__module__])
    assert tried and not failed
