"""Stores of vectors against a dictionary, and what they refuse."""

import os
import threading

import numpy as np
import pytest

from geoemb.tables import embedding, sections, store, text_hash

DTYPES = ("float16", "bfloat16", "float32", "float64")


def words(n, seed=0):
  """Different keys of 1 to 12 letters of several alphabets; many are beginnings of others."""
  rng = np.random.default_rng(seed)
  letters = np.array(list("abAB .ö東🙂"))
  found = dict.fromkeys(["a", "aa", "aaa"])
  while len(found) < n:
    found["".join(rng.choice(letters, rng.integers(1, 13)))] = None
  return list(found)[:n]


def make(path, n=500, dim=3, **options):
  keys = words(n)
  table = np.random.default_rng(1).standard_normal((n, dim)).astype(np.float32)
  store.write(path, keys, table, **options)
  return keys, table


@pytest.mark.parametrize("block", [7, 10_000])
def test_look_ups_are_those_of_a_dictionary(tmp_path, block):
  keys, table = make(tmp_path / "x", block=block)
  s = store.Store(tmp_path / "x")
  s.verify()
  rng = np.random.default_rng(2)
  rows = rng.integers(0, len(keys), 300)
  asked = [keys[i] for i in rows]
  np.testing.assert_array_equal(s.lookup(asked), table[rows], strict=True)
  others = [key for key in words(700, seed=5) if key not in set(keys)]
  mixed, expected = [*others, *asked], [-1] * len(others) + rows.tolist()
  assert others and s.rows(mixed).tolist() == expected
  assert [s.row(key) for key in mixed] == expected
  assert (keys[3] in s, others[0] in s) == (True, False)
  assert list(s.keys()) == keys and list(s.keys([5, 2])) == [keys[5], keys[2]]
  assert len(s) == len(keys) and s.rows([]).tolist() == []
  np.testing.assert_array_equal(s.vector(keys[9]), table[9])
  np.testing.assert_allclose(s.norms, np.linalg.norm(table, axis=1), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_of_every_dtype_comes_back(tmp_path, dtype):
  table = np.random.default_rng(0).standard_normal((50, 4)).astype(sections.dtype_of(dtype))
  store.write(tmp_path / "x", words(50), table)
  s = store.Store(tmp_path / "x")
  np.testing.assert_array_equal(s.table, table, strict=True)
  store.write(tmp_path / "y", words(50), table.astype(np.float64), dtype=dtype)
  np.testing.assert_array_equal(store.Store(tmp_path / "y").table, table, strict=True)


@pytest.mark.parametrize(
  "name, c, shape", [("lorentz", 0.25, (3,)), ("h2 x e1", (0.5, 1.0), (3,)), ("spd", 1.0, (2, 2))]
)
def test_the_manifold_comes_back(tmp_path, name, c, shape):
  points = np.ones((4, *shape), np.float32)
  store.write(tmp_path / "x", list("abcd"), points, name, c)
  s = store.Store(tmp_path / "x")
  assert (s.manifold, s.c, s.geometry.name) == (name, c, name)
  np.testing.assert_array_equal(s.table, points)
  if not isinstance(c, tuple):
    s.embedding().save(tmp_path)
    back = embedding.Embedding.load(tmp_path)
    assert (back.names, back.manifold, back.c) == (tuple("abcd"), name, c)
    np.testing.assert_array_equal(back.table, points)


_GOOD = np.full((3, 2), 0.5)


def _with(row, value):
  table = _GOOD.copy()
  table[row] = value
  return table


@pytest.mark.parametrize(
  "keys, table, options, what",
  [
    (["a", "b"], _GOOD, {}, "3 and 2"),
    (["a", "b", "a"], _GOOD, {}, "'a' is there twice: row 0, row 2"),
    (["a", "", "c"], _GOOD, {}, "row 1: a key must not be empty"),
    (["a", 7, "c"], _GOOD, {}, "row 1: a key must be a string"),
    (["a", "b", "c"], _with(2, np.nan), {}, "row 2: the vector is not finite"),
    (["a", "b", "c"], _with(1, np.inf), {}, "row 1: the vector is not finite"),
    (["a", "b", "c"], _with(1, 1e6), dict(dtype="float16"), "row 1: the vector overflows float16"),
    (["a", "b", "c"], _with(1, -0.5), dict(manifold="halfspace"), "row 1: .*breaks the rule"),
    (["a", "b", "c"], _GOOD.astype(int), {}, "int64"),
    (["a", "b", "c"], _GOOD, dict(dtype="int64"), "floating-point"),
    (["a", "b", "c"], _GOOD, dict(manifold="poincar"), "did you mean poincare"),
    (["a", "b", "c"], _GOOD, dict(manifold="spd"), "2 axes"),
    (["a", "b", "c"], np.zeros((3, 0)), {}, "empty"),
    ([], np.zeros((0, 2)), {}, "needs a vector, got none"),
  ],
)
def test_refuses_in_one_line_and_leaves_what_was_there(tmp_path, keys, table, options, what):
  make(tmp_path / "x", n=3)
  before = (tmp_path / "x").read_bytes()
  with pytest.raises(ValueError, match=what) as caught:
    store.write(tmp_path / "x", keys, table, **options)
  assert "\n" not in str(caught.value)
  assert (tmp_path / "x").read_bytes() == before
  assert os.listdir(tmp_path) == ["x"]


def test_blocks_must_agree_and_faults_name_the_row(tmp_path):
  with pytest.raises(ValueError, match=r"row 2: expected a point of shape \(2,\), got \(3,\)"):
    with store.Writer(tmp_path / "x") as out:
      out.add(["a", "b"], np.zeros((2, 2)))
      out.add(["c"], np.zeros((1, 3)))
  with (
    pytest.raises(ValueError, match="line 3: "),
    store.Writer(tmp_path / "x", where=lambda row: f"line {row + 1}") as out,
  ):
    out.add(["a", "b"], np.zeros((2, 2)))
    out.add(["c"], np.full((1, 2), np.nan))


def test_unknown_keys_are_named(tmp_path):
  make(tmp_path / "x")
  s = store.Store(tmp_path / "x")
  with pytest.raises(ValueError, match="has no key 'nope'"):
    s.vector("nope")
  with pytest.raises(ValueError, match="has no key 'nope' and 1 more"):
    s.lookup(["a", "nope", "a", "neither"])


def test_a_file_of_arrays_that_is_no_store_is_refused(tmp_path):
  with sections.Writer(tmp_path / "x") as out:
    out.begin("table", np.float32)
    out.add(np.zeros(4, np.float32))
  with pytest.raises(ValueError, match="is no store of vectors"):
    store.Store(tmp_path / "x")


def test_readers_see_whole_stores_while_they_are_replaced(tmp_path):
  """Every store opened meanwhile is one of the two, checksums included."""
  path, keys = tmp_path / "x", words(200)
  tables = [np.full((200, 8), value, np.float32) for value in (1, 2)]
  store.write(path, keys, tables[0], grams=False)
  done = threading.Event()

  def replace():
    for i in range(20):
      store.write(path, keys, tables[i % 2], grams=False)
    done.set()

  writer = threading.Thread(target=replace)
  writer.start()
  seen = set()
  while True:
    last = done.is_set()
    s = store.Store(path)
    s.verify()
    values = set(s.lookup(keys[:50]).ravel().tolist())
    assert len(values) == 1
    seen |= values
    if last:
      break
  writer.join()
  assert seen <= {1.0, 2.0} and os.listdir(tmp_path) == ["x"]


def test_rows_by_ngram_do_not_depend_on_the_passes(tmp_path, monkeypatch):
  keys, _ = make(tmp_path / "x", n=300)
  expected = {}
  for row, key in enumerate(keys):
    for x in text_hash.ngrams([key.lower()], *store.GRAMS)[0].tolist():
      expected.setdefault(x, set()).add(row)
  monkeypatch.setattr(store, "_POSTINGS", 100)
  monkeypatch.setattr(store, "_KEYS", 7)
  make(tmp_path / "y", n=300)
  for name in "xy":
    hashes, bounds, rows = store.Store(tmp_path / name).grams
    assert hashes.tolist() == sorted(expected)
    found = [rows[a:b].tolist() for a, b in zip(bounds[:-1], bounds[1:])]
    assert found == [sorted(expected[x]) for x in hashes.tolist()]
