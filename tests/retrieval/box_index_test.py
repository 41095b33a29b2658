import functools

import jax
import numpy as np
import pytest

from geoemb.boxes import box as boxes
from geoemb.boxes import volume
from geoemb.boxes.box import Box
from geoemb.retrieval import box_index
from tests.compiling import quick_jit

KINDS = {
  "hard": dict(log_side=volume.log_hard_side),
  "soft": dict(log_side=functools.partial(volume.log_soft_side, temperature=0.05)),
  "gumbel": dict(
    log_side=functools.partial(volume.log_gumbel_side, temperature=0.05),
    meet=functools.partial(boxes.gumbel_intersection, temperature=0.05),
  ),
}


def some(n, d, seed, dtype=np.float64):
  """Boxes of many sizes, a few of them equal, flat or with corners in the wrong order."""
  rng = np.random.default_rng(seed)
  lower = rng.uniform(size=(n, d))
  side = np.exp(rng.uniform(-5, 0, (n, 1)) + 0.3 * rng.standard_normal((n, d)))
  side[: n // 20] *= rng.integers(-1, 2, (n // 20, d))
  lower[-5:], side[-5:] = lower[:5], side[:5]
  return Box(lower.astype(dtype), (lower + side).astype(dtype))


@functools.cache
def scored(kind, holds, dtype):
  """All scores, [b, n], of the rows and queries that the tests share."""
  rows, queries = some(700, 3, 0, dtype), some(9, 3, 1, dtype)
  with jax.enable_x64(True):
    a = Box(*(x.astype(np.float64)[:, None] for x in queries))
    b = Box(*(x.astype(np.float64)[None] for x in rows))
    pair = (b, a) if holds == "row" else (a, b)
    of = quick_jit(functools.partial(volume.log_containment, **KINDS[kind]))
    return rows, queries, np.asarray(of(*pair))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("holds", ["row", "query"])
@pytest.mark.parametrize("kind", KINDS)
def test_finds_what_all_pairs_find(kind, holds, dtype):
  rows, queries, scores = scored(kind, holds, dtype)
  index = box_index.build(rows, leaf=8)
  allow = np.arange(700) % 7 != 3
  found = box_index.search(index, queries, 12, holds=holds, allow=allow, **KINDS[kind])
  want = np.where(allow, scores, -np.inf)
  ids = np.argsort(-want, axis=1, kind="stable")[:, :12]
  np.testing.assert_array_equal(found.ids, ids)
  np.testing.assert_allclose(found.scores, np.take_along_axis(want, ids, 1), rtol=1e-12, atol=1e-12)
  leaves = len(index.around.lower)
  assert (found.evaluations > leaves).all() and (found.evaluations <= leaves + allow.sum()).all()
  if kind != "hard":  # where all that are disjoint are equal
    assert found.evaluations.mean() < 0.8 * len(rows.lower)


@pytest.mark.parametrize("holds", ["row", "query"])
def test_few_leaves_find_less(holds):
  rows, queries, scores = scored("soft", holds, np.float64)
  index = box_index.build(rows, leaf=8)
  shares = []
  for leaves in (1, 5, 20, 10_000):
    found = box_index.search(index, queries, 10, holds=holds, leaves=leaves, **KINDS["soft"])
    assert (found.evaluations <= len(index.around.lower) + 8 * leaves).all()
    near = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    shares.append(np.mean([np.isin(a, b).mean() for a, b in zip(near, found.ids)]))
  assert shares == sorted(shares) and shares[-1] == 1 and shares[-2] > shares[0]


def test_more_than_there_are():
  index = box_index.build(some(3, 2, 0), leaf=2)
  found = box_index.search(index, some(2, 2, 1), 5, **KINDS["soft"])
  assert np.sort(found.ids[:, :3], axis=1).tolist() == [[0, 1, 2]] * 2
  assert (found.ids[:, 3:] == -1).all() and (found.scores[:, 3:] == -np.inf).all()
  none = box_index.search(index, some(2, 2, 1), 1, allow=np.zeros(3, bool), **KINDS["soft"])
  assert (none.ids == -1).all()


def test_leaves_hold_all_rows_and_what_is_around_them():
  rows = some(300, 4, 0)
  index = box_index.build(rows, leaf=16)
  assert sorted(index.ids) == list(range(300)) and np.diff(index.start).max() <= 16
  for i, (first, stop) in enumerate(zip(index.start, index.start[1:])):
    mine = index.ids[first:stop]
    np.testing.assert_array_equal(index.around.lower[i], rows.lower[mine].min(axis=0))
    np.testing.assert_array_equal(index.around.upper[i], rows.upper[mine].max(axis=0))
    np.testing.assert_array_equal(index.least[i], (rows.upper - rows.lower)[mine].min(axis=0))


def test_mistakes():
  rows = some(10, 2, 0)
  index, soft = box_index.build(rows), KINDS["soft"]
  broken = Box(rows.lower, np.where(np.arange(10)[:, None] == 4, np.nan, rows.upper))
  for call, message in (
    (lambda: box_index.build(broken), "those of box 4"),
    (lambda: box_index.build(Box(rows.lower, rows.upper[:, :1])), r"\(10, 2\) and \(10, 1\)"),
    (lambda: box_index.build(rows, leaf=0), "leaf must be positive"),
    (lambda: box_index.search(index, broken, 1, **soft), "those of query 4"),
    (lambda: box_index.search(index, some(1, 3, 0), 1, **soft), "2 dimensions, got 3"),
    (lambda: box_index.search(index, rows, 0, **soft), "k and leaves must be positive"),
    (lambda: box_index.search(index, rows, 1, leaves=0, **soft), "k and leaves must be positive"),
    (lambda: box_index.search(index, rows, 1, holds="box", **soft), "'row' or 'query', got 'box'"),
    (lambda: box_index.search(index, rows, 1, allow=[True], **soft), r"allow must be \[10\] bool"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
