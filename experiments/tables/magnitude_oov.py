"""Misspelt words without a vector of their own [patel2018magnitude]: how near do they land?

Word vectors are trained on a corpus, words of the vocabulary misspelt, and the vectors that
`oov` makes up for the misspellings compared with those of the vocabulary ("word": the rank of the
true word) and with each other ("twin": the rank of a second misspelling of the same word among
the second misspellings of all), by the cosine. Metrics are mean reciprocal ranks of four vectors:

    random   the direction that a hash of the whole key determines
    ngram    r, the mean over hashed n-grams
    known    s, the mean of the three known keys that resemble it most
    rule     0.3 r + 0.7 s, Magnitude's

Run:         python launch.py --config=experiments/tables/magnitude_oov.py:brown
Cost:        22 s of a CPU core for wikitext2; the extra "peers" (gensim) trains the vectors.
Departures:  small corpora and their vectors stand in for the paper's, and misspellings are drawn:
             a letter is left out, doubled, changed, put in, or exchanged with the next one. The
             paper reports no such figures; the goals are its claims. `ngram` does not know the
             vocabulary's vectors: by itself its rank of the true word is a matter of chance.
Unspecified: none found.
"""

import collections
import dataclasses
import gzip
import os
import re
import string
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from absl import logging

from geoemb import harness
from geoemb.data import paths, wordnet
from geoemb.tables import oov, store, text_hash


@dataclasses.dataclass
class Config:
  """A corpus and how its words are misspelt."""

  data: str = "brown"  # or wikitext2; twin: WordNet's mammals and random vectors
  dim: int = 100  # of word2vec's skip-gram vectors
  epochs: int = 10  # passes over the corpus
  min_count: int = 5  # occurrences of a word in the vocabulary
  words: int = 500  # that are misspelt, twice each
  letters: int = 5  # that they have at least
  seed: int = 0


VARIANTS = {
  "brown": dict(epochs=5),
  "wikitext2": dict(data="wikitext2"),
  "smoke": dict(data="twin", dim=10, words=50),
}

TARGETS = tuple(
  target
  for variant in ("brown", "wikitext2")
  for target in (
    harness.Target(
      "Claims", variant, "word_rule_gain", 0.0, goal=True, note="MRR of the true word, rule − ngram"
    ),
    harness.Target(
      "Claims", variant, "word_ngram_gain", note="MRR of the true word, ngram − random: chance"
    ),
    harness.Target(
      "Claims", variant, "twin_ngram_gain", 0.0, goal=True, note="MRR of the twin, ngram − random"
    ),
    harness.Target(
      "Claims", variant, "twin_rule_gain", 0.0, goal=True, note="MRR of the twin, rule − random"
    ),
    *(
      harness.Target("Mean reciprocal ranks", variant, f"{task}_{kind}")
      for task in ("word", "twin")
      for kind in ("random", "ngram", "known", "rule")
    ),
    harness.Target("Mean reciprocal ranks", variant, "word_rule_top10", note="share of words"),
  )
)


def get_config(variant: str = "brown") -> Config:
  """A corpus."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Trains vectors, writes them to words.vectors, and ranks what misspellings get."""
  if config.words < 1 or config.letters < 2:
    raise ValueError(f"expected a word of two letters, got {config.words} of {config.letters}")
  keys, table = _twin(config) if config.data == "twin" else _train(config)
  path = os.path.join(workdir, "words.vectors")
  os.makedirs(workdir, exist_ok=True)
  store.write(path, keys, table)
  words = store.Store(path)

  rng = np.random.default_rng(config.seed)
  long = [i for i, key in enumerate(keys) if len(key) >= config.letters and key.isalpha()]
  if len(long) < config.words:
    raise harness.Abort(f"the vocabulary has {len(long)} words to misspell, {config.words} wanted")
  rows = rng.choice(long, config.words, replace=False)
  first = [_misspell(rng, keys[i], words) for i in rows]
  second = [_misspell(rng, keys[i], words) for i in rows]
  unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)  # no 0 / 0
  vocabulary, metrics = unit(table.astype(np.float64)), {}
  mine, theirs = _vectors(words, first), _vectors(words, second)
  for kind, x in mine.items():
    rank = _ranks(unit(x) @ vocabulary.T, rows)
    twin = _ranks(unit(x) @ unit(theirs[kind]).T, np.arange(len(rows)))
    metrics |= {f"word_{kind}": np.mean(1 / rank), f"twin_{kind}": np.mean(1 / twin)}
    logging.info(
      "%s: median rank of the word %g of %d, of the twin %g of %d",
      kind, np.median(rank), len(words), np.median(twin), len(rows),
    )  # fmt: skip
    if kind == "rule":
      metrics["word_rule_top10"] = np.mean(rank <= 10)
  for i in range(3):
    near = words.keys(oov.resembling(words, first[i]))
    logging.info("%s for %s resembles %s", first[i], keys[rows[i]], ", ".join(near))
  metrics["word_rule_gain"] = metrics["word_rule"] - metrics["word_ngram"]
  metrics["word_ngram_gain"] = metrics["word_ngram"] - metrics["word_random"]
  metrics["twin_ngram_gain"] = metrics["twin_ngram"] - metrics["twin_random"]
  metrics["twin_rule_gain"] = metrics["twin_rule"] - metrics["twin_random"]
  return {name: float(value) for name, value in metrics.items()}


def _vectors(words: store.Store, keys: list[str]) -> dict[str, np.ndarray]:
  """The four vectors of keys, [b, d] each; `known` is 0 where nothing resembles a key."""
  dim = words.point[0]
  known = [words.table[oov.resembling(words, key)].sum(axis=0, dtype=np.float64) for key in keys]
  return {
    "random": text_hash.uniform(text_hash.mix(np.array(list(map(_crc, keys)), np.uint64)), dim),
    "ngram": oov.directions(keys, dim),
    "known": np.stack(known),
    "rule": oov.vectors(words, keys).astype(np.float64),
  }


def _crc(key: str) -> int:
  """A hash that is the same in every process, as `hash` is not."""
  return zlib.crc32(key.encode())


def _ranks(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Ranks from 1 of columns `truth` in rows of `score`; half of those that tie come before."""
  own = score[np.arange(len(truth)), truth][:, None]
  return 1 + (score > own).sum(axis=1) + ((score == own).sum(axis=1) - 1) / 2


def _misspell(rng: np.random.Generator, word: str, words: store.Store) -> str:
  """A word with one mistake that is no word of the vocabulary."""
  while True:
    i, letter = int(rng.integers(len(word))), str(rng.choice(list(string.ascii_lowercase)))
    wrong = (
      word[:i] + word[i + 1 :],
      word[:i] + word[i] + word[i:],
      word[:i] + letter + word[i + 1 :],
      word[:i] + letter + word[i:],
      word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
    )[rng.integers(5)]
    if wrong not in words:
      return wrong


def _twin(config: Config) -> tuple[list[str], np.ndarray]:
  """WordNet's mammals, vectors of no meaning."""
  keys = [name.partition(".")[0] for name in wordnet.load("mammal").names]
  keys = list(dict.fromkeys(keys))
  rng = np.random.default_rng(config.seed)
  return keys, rng.standard_normal((len(keys), config.dim)).astype(np.float32)


def _train(config: Config) -> tuple[list[str], np.ndarray]:
  """Skip-gram vectors of a corpus; one thread, for the same ones every time."""
  try:
    from gensim.models import word2vec
  except ImportError as error:
    raise harness.Abort("gensim trains the vectors: pip install 'geoemb[peers]'") from error
  if config.data not in _CORPORA:
    raise ValueError(f"data must be {', '.join(_CORPORA)} or twin, got {config.data!r}")
  sentences = list(_CORPORA[config.data]())
  count = collections.Counter(word for sentence in sentences for word in sentence)
  logging.info("%s: %d tokens, %d words", config.data, count.total(), len(count))
  model = word2vec.Word2Vec(
    sentences, vector_size=config.dim, epochs=config.epochs, min_count=config.min_count,
    sg=1, workers=1, seed=config.seed + 1, hashfxn=_crc,
  )  # fmt: skip
  return model.wv.index_to_key, model.wv.vectors


def _brown() -> Iterator[list[str]]:
  """Lower-cased sentences of the Brown corpus, without the tags."""
  with zipfile.ZipFile(_find("brown/brown.zip")) as archive:
    names = [name for name in archive.namelist() if re.fullmatch(r"brown/c[a-r]\d\d", name)]
    for name in sorted(names):
      for line in archive.read(name).decode().splitlines():
        if sentence := [token.rpartition("/")[0].lower() for token in line.split()]:
          yield sentence


def _wikitext2() -> Iterator[list[str]]:
  """Lower-cased paragraphs of WikiText-2's validation and test parts."""
  for part in ("valid", "test"):
    with gzip.open(_find(f"wikitext2/{part}.txt.gz"), "rt", encoding="utf-8") as file:
      for line in file:
        if sentence := [word for word in line.lower().split() if word != "<unk>"]:
          yield sentence


_CORPORA = {"brown": _brown, "wikitext2": _wikitext2}


def _find(name: str) -> str:
  path = os.path.join(paths.root(), name)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f"{path} not found: put it there, or name its folder in {paths.VARIABLE}"
    )
  return path
