"""Vectors of unknown keys, against the rule in plain Python."""

import re

import jax
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.tables import oov, store, text_hash

WORDS = """uberx uber discriminate discrimination discriminatory discriminating hello help helmet
shell bell bel belle cat cats catalog cart Paris Parisian paris-dakar rapid orient orientation
misorient disorientation ab abc abcd banana bandana cabana Köln kölnisch 東京 東京都 x""".split()
TYPOS = """discrimnatory uberification hellooo helo BELL bll cta ctalog Pariss disorientaton abcde
bananas kölnn 東京駅 zzqqzz catt a""".split()


def shrunk(key, most):
  return re.sub(rf"(.)\1{{{most},}}", lambda match: match[1] * most, key)


def grams(key, least, most):
  marked = f"{text_hash.MARK}{key.lower()}{text_hash.MARK}"
  return {marked[i : i + n] for n in range(least, most + 1) for i in range(len(marked) - n + 1)}


def oracle_resembling(key):
  """The rule of the module's docstring, word by word."""
  forms = [shrunk(key, 2), shrunk(key, 1)]
  forms += [form.lower() for form in forms]
  equal = [form for form in dict.fromkeys(forms) if form in WORDS and form != key]
  if equal:
    return equal[:3]
  key, best = shrunk(key, 2).lower(), []
  for least in (6, 5, 4, 3):
    mine = grams(key, least, 6)
    scored = []
    for row, word in enumerate(WORDS):
      count = len(mine & grams(word, least, 6))
      ends = len(key) <= 6 and len(word) <= len(key)
      first, last = ends and word.lower()[0] == key[0], ends and word.lower()[-1] == key[-1]
      if count:
        scored.append((-count, not first, not last, len(word), row))
    best = [WORDS[row] for *_, row in sorted(scored)[:3]]
    if len(best) == 3:
      break
  return best


def oracle_direction(key, dim):
  """Of the mean over n-grams, repeated ones as often as they occur, marks included."""
  marked = text_hash.MARK + shrunk(key, 2) + text_hash.MARK
  total = np.zeros(dim)
  for n in range(1, 7):
    for i in range(len(marked) - n + 1):
      x = 0
      for letter in marked[i : i + n]:
        x = (x * 0x5851F42D4C957F2D + ord(letter) + 1) % 2**64
      seed = text_hash.mix(np.array([x], np.uint64))
      total += text_hash.uniform(seed, dim)[0]
  return total / np.linalg.norm(total)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  path = tmp_path_factory.mktemp("oov") / "x"
  table = np.random.default_rng(0).standard_normal((len(WORDS), 16))
  store.write(path, WORDS, table)
  return store.Store(path)


@pytest.mark.parametrize("key", [*TYPOS, *WORDS[:8]])
def test_resembling_keys_are_the_rules(words, key):
  assert list(words.keys(oov.resembling(words, key))) == oracle_resembling(key)


def test_examples_a_reader_can_check(words):
  first = lambda key: next(words.keys(oov.resembling(words, key)))
  assert first("discrimnatory") == "discriminatory"
  assert first("hellooooo") == "hello"
  assert first("kölnn") == "Köln"
  assert oov.resembling(words, "zzqqzz").size == 0


def test_directions_are_the_rules():
  found = oov.directions(TYPOS, 16)
  np.testing.assert_allclose(found, [oracle_direction(key, 16) for key in TYPOS], atol=1e-12)


def test_vectors_are_three_tenths_random_and_seven_known(words):
  for key, found in zip(TYPOS, oov.vectors(words, TYPOS)):
    known = np.array([words.vector(word) for word in oracle_resembling(key)])
    u = 0.3 * oracle_direction(key, 16)
    if len(known):
      u += 0.7 * known.mean(axis=0) / np.linalg.norm(known.mean(axis=0))
      length = np.linalg.norm(known, axis=1).mean()
    else:
      length = np.linalg.norm(words.table, axis=1).mean()
    np.testing.assert_allclose(found, length * u / np.linalg.norm(u), atol=1e-12)


def test_lookup_makes_up_only_for_what_is_missing(words):
  keys = ["cat", "ctalog", "bell", "ctalog", "uberification"]
  found = oov.lookup(words, keys)
  np.testing.assert_array_equal(found[[0, 2]], words.lookup(["cat", "bell"]))
  np.testing.assert_array_equal(found[1], found[3])
  np.testing.assert_allclose(found[[4]], oov.vectors(words, ["uberification"]), atol=1e-15)


@pytest.mark.parametrize("name", ["lorentz", "sphere"])
def test_points_lie_on_the_manifold_and_near_what_they_resemble(tmp_path, name):
  """At the mean distance of the known from the origin, and turned by less than 25.4°."""
  c = 0.5
  m = manifolds.make(name, c)
  with jax.enable_x64(True):
    x = np.random.default_rng(0).standard_normal((len(WORDS), 8)) / 4
    if name == "sphere":
      x /= np.sqrt(c) * np.linalg.norm(x, axis=1, keepdims=True)
    store.write(tmp_path / "x", WORDS, x, name, c)
    s = store.Store(tmp_path / "x")
    (found,) = oov.vectors(s, ["discrimnatory"])
    known = s.table[oov.resembling(s, "discrimnatory")]
    assert not m.fault(found)
    if name == "sphere":
      tangent, mean = found, known.mean(axis=0)
    else:
      d, v = jax.jit(lambda x: (m.dist0(x), m.log0(x)))(np.vstack([found, known]))
      np.testing.assert_allclose(d[0], d[1:].mean(), rtol=1e-9)
      tangent, mean = np.asarray(v[0]), np.asarray(v[1:]).mean(axis=0)
    cosine = tangent @ mean / np.linalg.norm(tangent) / np.linalg.norm(mean)
    # The angle is largest where the random direction stands on the other: atan(3/7) = 23.2°,
    # asin(3/7) = 25.4° where it leans away.
    assert cosine > np.cos(np.arcsin(3 / 7))


def test_refuses_what_has_no_rule(tmp_path):
  store.write(tmp_path / "x", ["a"], np.ones((1, 2)), "halfspace")
  with pytest.raises(ValueError, match="halfspace has no rule"):
    oov.lookup(store.Store(tmp_path / "x"), ["b"])
  store.write(tmp_path / "x", ["a"], np.ones((1, 2)), grams=False)
  s = store.Store(tmp_path / "x")
  np.testing.assert_array_equal(oov.lookup(s, ["a"]), [[1, 1]])
  with pytest.raises(ValueError, match="without n-grams"):
    oov.lookup(s, ["b"])


def test_directions_are_the_same_on_every_machine():
  # Computed by this module when the format was made: a change breaks what others have stored.
  found = oov.directions(["geoemb"], 3)[0]
  np.testing.assert_allclose(
    found, [0.18275232995467283, -0.6388366795368858, -0.7473214052697973], rtol=1e-12
  )
