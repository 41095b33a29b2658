"""Hashes of strings: against Python's unbounded integers, and n-grams against slices."""

import numpy as np
import pytest

from geoemb.tables import text_hash

KEYS = [
  "a",
  "aa",
  "b",
  "\x00",
  "\x00\x00",
  "dog.n.01",
  "Köln",
  "東京",
  "🙂🙂",
  "x" * 300,
  "New York",
]
_R = 0x5851F42D4C957F2D


def splitmix(x):
  """The last step of SplitMix64 [steele2014fast], in Python's integers."""
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
  x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
  return x ^ x >> 31


def oracle(numbers):
  m = len(numbers)
  return splitmix(sum((b + 1) * _R ** (m - 1 - i) for i, b in enumerate(numbers)) % 2**64)


def test_encode_gives_every_key_back():
  data, bounds = text_hash.encode(KEYS)
  back = [bytes(data[a:b]).decode() for a, b in zip(bounds[:-1], bounds[1:])]
  assert back == KEYS


@pytest.mark.parametrize("key, what", [("", "empty"), (7, "string"), ("\ud800", "UTF-8")])
def test_encode_refuses(key, what):
  with pytest.raises(ValueError, match=what):
    text_hash.encode(["fine", key])


def test_ngrams_are_the_slices_of_marked_keys():
  keys = ["dog", "doggy", "Köln", "a", "東京タワー"]
  found, owners = text_hash.ngrams(keys, 2, 4)
  expected = []
  for i, key in enumerate(keys):
    marked = [ord(letter) for letter in text_hash.MARK + key + text_hash.MARK]
    for size in (2, 3, 4):
      for at in range(len(marked) - size + 1):
        expected.append((oracle(marked[at : at + size]), i))
  assert sorted(zip(found.tolist(), owners.tolist())) == sorted(expected)


def test_uniform_is_splitmix_from_the_seed():
  seeds = np.array([0, 1, 2**63 + 5], np.uint64)
  found = text_hash.uniform(seeds, 3)
  step = 0x9E3779B97F4A7C15
  for seed, row in zip(seeds.tolist(), found.tolist()):
    for j, x in enumerate(row, 1):
      assert x == (splitmix((seed + j * step) % 2**64) >> 11) / 2**52 - 1
  many = text_hash.uniform(np.arange(2000, dtype=np.uint64), 20)
  assert -1 <= many.min() < -0.99 and 0.99 < many.max() < 1
  np.testing.assert_allclose(many.mean(axis=0), 0, atol=0.06)  # four deviations of 1/√(3 · 2000)


def test_uniform_is_vignas_splitmix64():
  # The first output from the seed 0, as the reference splitmix64.c prints it.
  assert (0xE220A8397B1DCDAF >> 11) / 2**52 - 1 == text_hash.uniform(np.zeros(1, np.uint64), 1)[
    0, 0
  ]
