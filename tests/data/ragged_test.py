"""Rows of different lengths as batches of few shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoemb.data import ragged


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=80), st.integers(1, 5000))
def test_every_row_comes_once_in_a_shape_that_holds_it(sizes, budget):
  seen, shapes = [], {}
  for group in ragged.groups(sizes, budget):
    seen.extend(group.rows)
    assert max(sizes[i] for i in group.rows) <= group.length and len(group.rows) <= group.size
    assert group.size == 1 or group.size * group.length <= budget
    assert shapes.setdefault(group.length, group.size) == group.size
  assert sorted(seen) == list(range(len(sizes)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1200), min_size=1, max_size=80), st.integers(1, 5000))
def test_every_row_has_a_place_of_its_own(sizes, budget):
  seen = []
  for batch in ragged.packed(sizes, budget):
    seen.extend(batch.rows)
    assert batch.size == 1 or batch.size * batch.length <= budget
    taken = np.zeros((batch.size, batch.length), int)
    for row, begin in zip(batch.rows, batch.place):
      line, at = divmod(begin, batch.length)
      assert at + max(sizes[row], 1) <= batch.length
      taken[line, at : at + sizes[row]] += 1
    assert taken.max() <= 1
  assert sorted(seen) == list(range(len(sizes)))


def test_little_is_padding_and_few_shapes_there_are():
  sizes = np.clip(np.random.default_rng(0).lognormal(3, 0.8, 3000), 2, 256).astype(int)
  batches = list(ragged.packed(sizes, 4096, longest=512))
  assert sizes.sum() > 0.97 * sum(b.size * b.length for b in batches)
  assert len({(b.size, b.length) for b in batches}) <= 8
  (one,) = ragged.packed([7], 4096)
  assert one[2:] == (1, 32)


def test_batches_hold_the_vectors():
  rng = np.random.default_rng(0)
  start = np.concatenate([[0], np.cumsum([3, 9, 1, 30])])
  bags = ragged.Ragged(rng.normal(size=(43, 2)), start)
  for rows, x, mask in ragged.batches(bags, 64):
    for i, values, here in zip(rows, x, mask):
      np.testing.assert_array_equal(values[here], bags.vectors[start[i] : start[i + 1]])
      assert not values[~here].any()


@pytest.mark.parametrize(
  ("vectors", "start", "message"),
  [
    (np.ones((3, 2)), [0, 2], "from 0 to the number of vectors"),
    (np.ones((3, 2)), [0, 2, 2, 3], "bag 1 has none"),
    (np.full((1, 2), np.nan), [0, 1], "must be finite"),
  ],
)
def test_bad_bags_are_refused(vectors, start, message):
  with pytest.raises(ValueError, match=message):
    ragged.check(ragged.Ragged(vectors, np.array(start)))
