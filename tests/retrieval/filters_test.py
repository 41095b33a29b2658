"""Conditions against Python's own sets and comparisons."""

import numpy as np
import pytest

from geoemb.retrieval import filters

RNG = np.random.default_rng(0)
SETS = [tuple(np.flatnonzero(RNG.random(130) < 0.3)) for _ in range(50)]
COLUMNS = {
  "kind": RNG.integers(0, 5, 50),
  "size": RNG.normal(size=50),
  "tags": filters.pack(SETS, 130),
}


@pytest.mark.parametrize(
  ("where", "holds"),
  [
    (filters.Equal("kind", 3), lambda kind, size, tags: kind == 3),
    (filters.OneOf("kind", (1, 4)), lambda kind, size, tags: kind in (1, 4)),
    (filters.OneOf("kind", ()), lambda *_: False),
    (filters.Range("size", -0.5, 0.5), lambda kind, size, tags: -0.5 <= size <= 0.5),
    (filters.Range("size", low=0.1), lambda kind, size, tags: size >= 0.1),
    (filters.Range("kind", high=2), lambda kind, size, tags: kind <= 2),
    (filters.Range("size"), lambda *_: True),
    (filters.Contains("tags", (2, 129)), lambda kind, size, tags: {2, 129} <= set(tags)),
    (filters.Contains("tags", ()), lambda *_: True),
    (
      filters.And((filters.Equal("kind", 1), filters.Contains("tags", (64,)))),
      lambda kind, size, tags: kind == 1 and 64 in tags,
    ),
  ],
)
def test_rows_that_pass(where, holds):
  want = [holds(*row) for row in zip(COLUMNS["kind"], COLUMNS["size"], SETS)]
  got = filters.mask(where, COLUMNS)
  assert got.dtype == bool
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
  ("where", "message"),
  [
    (filters.Equal("other", 1), "columns are kind, size, tags; got 'other'"),
    (filters.Equal("tags", 1), "a set for each row, which Equal is not for"),
    (filters.Contains("kind", (1,)), "a number for each row, which Contains is not for"),
    (filters.Contains("tags", (192,)), "between 0 and 191, got 192"),
    (filters.And(()), "at least one"),
    (("kind", 3), "expected a condition"),
  ],
)
def test_bad_conditions_are_refused(where, message):
  with pytest.raises(ValueError, match=message):
    filters.mask(where, COLUMNS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_members_may_be_integers_of_any_size(dtype):
  sets = [(40,), (3, 63), (31,)]
  narrow = [tuple(dtype(member) for member in members) for members in sets]
  np.testing.assert_array_equal(filters.pack(narrow, 64), filters.pack(sets, 64))
  columns = {"tags": filters.pack(sets, 64)}
  found = filters.mask(filters.Contains("tags", (dtype(40),)), columns)
  np.testing.assert_array_equal(found, [True, False, False])
