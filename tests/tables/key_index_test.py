"""An index of keys against a dictionary, and how full its buckets are."""

import numpy as np
import pytest

from geoemb.data import wordnet
from geoemb.tables import key_index, text_hash


def make(keys):
  data, bounds = text_hash.encode(keys)
  return key_index.KeyIndex(data, bounds, *key_index.build(data, bounds))


def words(n, seed):
  rng = np.random.default_rng(seed)
  word = lambda: "".join("ab\x00東🙂"[i] for i in rng.integers(5, size=rng.integers(1, 9)))
  return list(dict.fromkeys(word() for _ in range(n)))  # 0 after a key does not change its number


def check(keys, others):
  index, rows = make(keys), {key: i for i, key in enumerate(keys)}
  asked = [*others, *keys[::-1], *others[:3]]
  expected = [rows.get(key, -1) for key in asked]
  assert index.rows(asked).tolist() == expected
  assert [index.row(key) for key in asked] == expected
  assert len(index) == len(keys) and index.duplicate() is None


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_rows_are_those_of_a_dictionary(n):
  check(words(n, seed=0), words(100, seed=1))


def test_few_buckets_and_small_blocks_change_nothing(monkeypatch):
  monkeypatch.setattr(key_index, "_prime", lambda n: 3)
  monkeypatch.setattr(key_index, "_BLOCK", 5)
  check(words(60, seed=0), words(100, seed=1))


def test_no_keys_have_no_rows():
  index = make([])
  assert (len(index), index.row("a"), index.rows(["a"]).tolist()) == (0, -1, [-1])
  assert index.rows([]).tolist() == []


def test_a_bucket_is_the_remainder_of_the_bytes():
  keys = ["a", "ab", "東京", "x" * 5000, *words(50, seed=2)]
  found = key_index._bucket(*text_hash.encode(keys), 4_294_967_291)  # the largest prime below 2³²
  assert found.tolist() == [int.from_bytes(key.encode(), "little") % 4_294_967_291 for key in keys]


def test_the_first_duplicate_is_found(monkeypatch):
  monkeypatch.setattr(key_index, "_BLOCK", 3)
  assert make(["a", "b", "c", "d", "b", "a", "b"]).duplicate() == (1, 4)


@pytest.mark.parametrize("n", [257, 1000, 4093, 65537])  # −1, −3 or the like are powers of 256
@pytest.mark.parametrize("form", ["{}", "{:08d}", "doc_{}.txt"])
def test_numbered_keys_spread(n, form):
  data, bounds = text_hash.encode([form.format(i) for i in range(n)])
  starts, _ = key_index.build(data, bounds)
  assert np.diff(starts.astype(np.int64)).max() <= 8


def test_words_spread():
  starts, _ = key_index.build(*text_hash.encode(wordnet.load("mammal").names))
  sizes = np.diff(starts.astype(np.int64))
  assert sizes.sum() == len(wordnet.load("mammal").names)
  # A key meets (n − 1)/2n ≈ half of another before itself where buckets are drawn at random.
  assert (sizes * (sizes + 1) / 2).sum() / sizes.sum() < 1.6
