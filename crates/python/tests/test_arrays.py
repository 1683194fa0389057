"""Arrays of every layout and dtype, lists, buffers: the same numbers give the same answers."""

from __future__ import annotations

import numpy as np
import pytest

import spinney

DIMS = 6


@pytest.fixture
def index(store, rng):
    index = store.index("a", DIMS, "euclidean")
    index.add(range(50), rng.integers(-9, 9, (50, DIMS)).astype(np.float32))
    return index


def misaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    moved = raw[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    assert not moved.flags.aligned
    return moved


class Duck:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


class Subclass(np.ndarray):
    pass


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "rows strided": lambda a: np.repeat(a, 3, axis=0)[::3],
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "misaligned": misaligned,
    "read only": read_only,
    "byte swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "f64": lambda a: a.astype(np.float64),
    "f16": lambda a: a.astype(np.float16),
    "i8": lambda a: a.astype(np.int8),
    "i16": lambda a: a.astype(np.int16),
    "i32": lambda a: a.astype(np.int32),
    "i64": lambda a: a.astype(np.int64),
    "long double": lambda a: a.astype(np.longdouble),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(map(tuple, a.tolist())),
    "list of arrays": list,
    "duck": Duck,
    "subclass": lambda a: a.view(Subclass),
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "masked, none masked": lambda a: np.ma.masked_array(a),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_every_form_are_the_same_numbers(index, store, rng, form):
    rows = rng.integers(-9, 9, (7, DIMS)).astype(np.float32)
    expected = index.search(rows, 5)
    found = index.search(FORMS[form](rows), 5)
    assert (found.ids == expected.ids).all() and (found.distances == expected.distances).all()
    other = store.index("b", DIMS, "euclidean")
    other.add(range(7), FORMS[form](rows))
    assert (other[range(7)] == rows).all()


@pytest.mark.parametrize("form", ["strided", "reversed", "misaligned", "byte swapped", "f64",
                                  "subclass", "duck", "memoryview"])
def test_one_vector_of_every_form(index, rng, form):
    row = rng.integers(-9, 9, DIMS).astype(np.float32)
    assert index.search(FORMS[form](row), 5).ids.tolist() == index.search(row, 5).ids.tolist()


def test_unsigned_and_bool(store):
    index = store.index("bits", 9, "hamming")
    rows = np.random.default_rng(1).integers(0, 2, (30, 9))
    index.add(range(30), rows.astype(bool))
    expected = (rows[0] != rows).sum(1)
    for query in (rows[0].astype(np.uint8), rows[0].astype(bool), rows[0].astype(np.uint64)):
        hits = index.search(query, 30)
        assert (hits.distances == expected[hits.ids]).all()
    packed = np.packbits(rows, axis=1, bitorder="little")
    assert index.search(packed[0], 30, packed=True).ids.tolist() == hits.ids.tolist()
    other = store.index("packed", 9, "hamming")
    other.add(range(30), packed, packed=True)
    assert (other[range(30)] == rows).all()


@pytest.mark.parametrize("value", [
    np.zeros(DIMS, complex), np.array(["a"] * DIMS), np.array([object()] * DIMS), "abcdef",
    [[1.0] * DIMS, [1.0]], np.zeros((1, 1, DIMS), np.float32), np.float32(3), None, b"123456",
    np.ma.masked_array(np.ones(DIMS), mask=[1] + [0] * (DIMS - 1)),
])
def test_what_are_no_vectors(index, value):
    with pytest.raises(TypeError):
        index.search(value)


def test_sparse_rows_are_refused(index):
    class Sparse:
        def tocsr(self):
            raise AssertionError

    with pytest.raises(TypeError, match="sparse"):
        index.search(Sparse())


def test_an_error_names_the_row_and_the_place(index):
    rows = np.zeros((4, DIMS), np.float32)
    rows[2, 3] = np.nan
    with pytest.raises(spinney.InvalidVectorError) as raised:
        index.add([5, 6, 7, 8], rows)
    assert (raised.value.row, raised.value.position, raised.value.id) == (2, 3, 7)
    with pytest.raises(spinney.InvalidVectorError) as raised:
        index.search(rows)
    assert (raised.value.row, raised.value.position) == (2, 3)
    with pytest.raises(spinney.InvalidVectorError):
        index.search(np.full(DIMS, 1e300))
    assert len(index) == 50


def test_empty_shapes(index):
    assert index.search(np.empty((0, DIMS), np.float32), 3).ids.shape == (0, 3)
    hits = index.search(np.zeros(DIMS), 0)
    assert (hits.ids.shape, hits.distances.shape, len(hits)) == ((0,), (0,), 0)
    assert index.search(np.zeros((2, DIMS)), 0).ids.shape == (2, 0)
    assert index.search(np.zeros((2, DIMS)), 1000).ids.shape == (2, 50)
    assert index.add([], np.empty((0, DIMS))).tolist() == []
    assert index.add([], []).tolist() == [] and index.search([], 3).ids.shape == (0, 3)
    with pytest.raises(spinney.InvalidVectorError):
        index.search(np.zeros((2, DIMS + 1)))
    with pytest.raises(ValueError):
        index.search(np.zeros(DIMS), -1)


def test_padding_where_filters_leave_too_few(index):
    hits = index.search(np.zeros((3, DIMS)), 4, allowed=[7, 9])
    assert hits.ids.dtype == np.int64 and hits.distances.dtype == np.float32
    assert (hits.ids[:, 2:] == -1).all() and np.isnan(hits.distances[:, 2:]).all()
    assert hits.counts.tolist() == [2, 2, 2]
    one = index.search(np.zeros(DIMS), 4, allowed=[7, 9])
    assert sorted(one.ids.tolist()) == [7, 9]
    unknown = index.search_items([3, 99], 4)
    assert unknown.counts.tolist() == [4, 0] and (unknown.ids[1] == -1).all()
    assert 3 not in unknown.ids[0]


@pytest.mark.parametrize("ids", [
    [3, 1, 2], (3, 1, 2), np.array([3, 1, 2]), np.array([3, 1, 2], np.uint8),
    np.array([9, 3, 9, 1, 9, 2])[1::2], np.array([3, 1, 2], ">i8"),
])
def test_ids_of_every_form(store, ids):
    index = store.index("ids", 1, "euclidean")
    assert index.add(ids, [[1.0], [2.0], [3.0]]).tolist() == [3, 1, 2]
    assert index[ids].ravel().tolist() == [1.0, 2.0, 3.0]
    assert index.delete(ids) == 3


def test_ids_of_numpy_and_python_in_one_list(index):
    for ids in ([np.uint64(3), 4], [np.int64(3), np.uint64(4)], [np.array(3), 4], iter([3, 4]), {3: 0, 4: 0}):
        assert index[ids].tolist() == index[[3, 4]].tolist()
    assert index.search_any(np.int64(3), 2).ids.tolist() == index.search_any(3, 2).ids.tolist()
    with pytest.raises(OverflowError):
        index.search_any([2**32])


def test_packed_rows_have_as_many_bytes_as_the_dimensions_need(store):
    index = store.index("bits", 9, "hamming")
    for width in (0, 1, 3):
        with pytest.raises(spinney.InvalidVectorError):
            index.add([1], np.zeros((1, width), np.uint8), packed=True)
    index.add([1], np.zeros((1, 2), np.uint8), packed=True)


@pytest.mark.parametrize("ids", [range(2**40), range(0, 2**62, 2), range(-1, 3), range(2**33, 0, -1), [-1], [2**32], np.array([-5]), [2**70], np.array([2**63], np.uint64)])
def test_ids_out_of_range(index, ids):
    for call in (lambda: index.add(ids, np.zeros((1, DIMS))), lambda: index.delete(ids),
                 lambda: index.search(np.zeros(DIMS), allowed=ids)):
        with pytest.raises(OverflowError):
            call()
    assert len(index) == 50


@pytest.mark.parametrize("ids", [[1.5], ["a"], np.array([1.0]), np.array([[1]]), [None],
                                 [True, False], "12", b"12", np.ma.masked_array([1, 2], [1, 0])])
def test_what_are_no_ids(index, ids):
    with pytest.raises(TypeError):
        index.delete(ids)


def test_ids_given_by_the_index(store):
    index = store.index("auto", 1, "euclidean")
    assert index.add(None, [[1.0], [2.0]]).tolist() == [0, 1]
    index.add([7], [[3.0]])
    assert index.add(None, [4.0]).tolist() == [8]
    index.add([2**32 - 1], [[5.0]])
    with pytest.raises(spinney.InvalidOptionError):
        index.add(None, [[6.0]])


def test_filters_of_every_form(index):
    pyroaring = pytest.importorskip("pyroaring")
    expected = index.search(np.zeros(DIMS), 50, allowed=[2, 3, 5, 40])
    mask = np.zeros(50, bool)
    mask[[2, 3, 5, 40]] = True
    for allowed in ({2, 3, 5, 40}, frozenset([40, 5, 3, 2]), np.array([40, 2, 5, 3]), mask,
                    spinney.IdSet([2, 3, 5, 40]), pyroaring.BitMap([2, 3, 5, 40]),
                    (i for i in (2, 3, 5, 40))):
        assert index.search(np.zeros(DIMS), 50, allowed=allowed).ids.tolist() == expected.ids.tolist()
    predicate = index.search(np.zeros(DIMS), 50, predicate=lambda i: i in (2, 3, 5, 40))
    assert predicate.ids.tolist() == expected.ids.tolist()
    both = index.search(np.zeros(DIMS), 50, allowed=[2, 3, 5], predicate=lambda i: i > 2)
    assert sorted(both.ids.tolist()) == [3, 5]
    assert sorted(index.search(np.zeros(DIMS), 50, allowed=range(4)).ids.tolist()) == [0, 1, 2, 3]
    assert len(index.search(np.zeros(DIMS), 50, allowed=range(4, 4))) == 0
    assert sorted(index.search(np.zeros(DIMS), 9, allowed=range(1, 9, 3)).ids.tolist()) == [1, 4, 7]


def test_id_sets():
    a, b = spinney.IdSet([1, 2, 3]), spinney.IdSet(range(3, 6))
    assert (list(a & b), list(a | b), list(a - b), list(a ^ b)) == \
        ([3], [1, 2, 3, 4, 5], [1, 2], [1, 2, 4, 5])
    assert 2 in a and 9 not in a and -1 not in a and "x" not in a
    assert len(a) == 3 and a == spinney.IdSet({3, 2, 1}) and hash(a) == hash(spinney.IdSet([1, 2, 3]))
    assert (list({3, 9} & a), list([9] | a), list({1, 9} - a), list({1, 9} ^ a)) == \
        ([3], [1, 2, 3, 9], [9], [2, 3, 9])
    assert spinney.IdSet.from_bytes(a.to_bytes()) == a
    assert a.to_array().tolist() == [1, 2, 3] and a.to_array().dtype == np.int64
    pyroaring = pytest.importorskip("pyroaring")
    assert pyroaring.BitMap.deserialize(a.to_bytes()) == pyroaring.BitMap([1, 2, 3])
    with pytest.raises(spinney.InvalidOptionError):
        spinney.IdSet.from_bytes(b"nonsense")


def test_arrow_rows(index):
    pyarrow = pytest.importorskip("pyarrow")
    rows = np.arange(2 * DIMS, dtype=np.float32)
    arrow = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows), DIMS)
    expected = index.search(rows.reshape(2, DIMS), 3)
    assert (index.search(arrow, 3).ids == expected.ids).all()
    assert (index.search(arrow[1:], 3).ids == expected.ids[1:]).all()
    # As columns of tables are.
    chunked = pyarrow.chunked_array([arrow[:1], arrow[1:]])
    assert (index.search(chunked, 3).ids == expected.ids).all()
    assert index.search(pyarrow.chunked_array([], arrow.type), 3).ids.shape == (0, 3)
    for nulls in ([None, [0.0] * DIMS], [[0.0] * DIMS, None]):
        with pytest.raises(TypeError, match="null"):
            index.search(pyarrow.array(nulls, arrow.type), 3)
