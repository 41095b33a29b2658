"""Vectors that some encoder made of texts: documents with queries, or pairs with scores.

An .npz file holds one of these, each array of finite numbers in rows of one length:

  documents  c [n, d], q [m, d], also by the names documents and queries; and, where judgements name
             them, doc_ids [n] and query_ids [m] (row numbers otherwise)
  pairs      a [n, d], b [n, d], score [n], the similarity that people gave them; and, if reducers
             are to be fitted on others, fit [k, d]
  vectors    one array [n, d] of any name, as an .npy file has it too: a tenth of the rows, at most
             1,000 drawn at random, are the queries, and the others the documents

"scifact" names the vectors of all-MiniLM-L6-v2 [wang2020minilm] for SciFact,
384-dimensional, 5,183 documents and 1,109 queries. They are not shipped.
"""

import os
from typing import NamedTuple

import numpy as np

from geoemb.data import beir, files, paths, qrels

FILES = {"scifact": "scifact/minilm_f16.npz"}
_NAMES = {"documents": "c", "queries": "q"}
_QUERIES = 1000  # at most, of a file without queries


class Documents(NamedTuple):
  """Vectors of documents and queries, and who is relevant for what."""

  doc_ids: list[str]
  c: np.ndarray  # [n, d] float32
  query_ids: list[str]  # of all queries
  q: np.ndarray  # [m, d] float32
  qrels: qrels.Qrels  # of some of the queries; empty if there are no judgements


class Pairs(NamedTuple):
  """Vectors of pairs of texts, and how similar people find them."""

  a: np.ndarray  # [n, d] float32
  b: np.ndarray  # [n, d] float32
  score: np.ndarray  # [n]
  fit: np.ndarray  # [k, d] float32 vectors to fit reducers on; a and b if the file has none


def load(
  name: str, judgements: str = "", *, root: str | os.PathLike | None = None
) -> Documents | Pairs:
  """The vectors of a name in FILES, or of a file.

  Args:
    name: a key of FILES, or a path.
    judgements: file of judgements for a file of documents; see `qrels`.
    root: folder of data sets.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is not as described above; a vector is zero or not finite; ids occur twice;
      a judgement names an unknown one.
  """
  path = os.path.join(paths.root(root), FILES[name]) if name in FILES else os.fspath(name)
  if not os.path.exists(path):
    if name in FILES:
      raise paths.missing(path, f"the vectors of {name}", os.path.dirname(FILES[name]))
    raise FileNotFoundError(f"{path} not found: name a file of vectors, or {', '.join(FILES)}")
  try:
    with open(path, "rb") as file:  # numpy leaves its own open where it fails
      found = np.load(file, allow_pickle=False)
      if isinstance(found, np.ndarray):
        arrays = {"vectors": found}
      else:
        arrays = {_NAMES.get(key, key): x for key, x in found.items()}
  except (ValueError, OSError, *files.DAMAGED_ZIP) as error:
    raise ValueError(f"{path} is not an .npz or .npy file of numbers: {error}") from error
  if {"a", "b", "score"} <= arrays.keys():
    return _pairs(path, arrays)
  if not {"c", "q"} <= arrays.keys():
    arrays = _held_out(path, arrays, judgements)
  c, q = _check(path, "c", arrays["c"]), _check(path, "q", arrays["q"])
  _same(path, c=c, q=q)
  if name == "scifact":
    texts = beir.load("scifact", root=root)
    ids = texts.doc_ids, texts.query_ids
    found = texts.qrels if not judgements else qrels.read(judgements)
  else:
    ids = _ids(path, arrays, "doc_ids", len(c)), _ids(path, arrays, "query_ids", len(q))
    found = qrels.read(judgements) if judgements else {}
  for side, known, asked in (
    ("query", ids[1], found),
    ("document", ids[0], [doc for row in found.values() for doc in row]),
  ):
    if unknown := set(asked) - set(known):
      raise ValueError(
        f"{judgements or name} judges {len(unknown)} unknown {side} ids, such as {min(unknown)!r}; "
        f"{path} has {known[0]!r} … {known[-1]!r}"
      )
  return Documents(ids[0], c, ids[1], q, found)


def documents(
  name: str, judgements: str = "", *, root: str | os.PathLike | None = None
) -> Documents:
  """As `load`; a file of pairs raises ValueError too."""
  found = load(name, judgements, root=root)
  if not isinstance(found, Documents):
    raise ValueError(f"{name} must hold documents and queries, not pairs")
  return found


def twin(n: int = 400, m: int = 40, d: int = 64, *, seed: int = 0) -> Documents:
  """Generated documents that are like an encoder's: topics, a mean, a decaying spectrum.

  Query i is a noisy document i, which alone is relevant for it.
  """
  if not 0 < m <= n:
    raise ValueError(f"m must be between 1 and {n}, got {m}")
  rng = np.random.default_rng(seed)
  spectrum = (1 + np.arange(d)) ** -0.5
  turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
  topics = rng.standard_normal((max(2, n // 20), d))
  at = rng.integers(len(topics), size=n)
  c = (topics[at] + 0.4 * rng.standard_normal((n, d))) * spectrum
  c[:, 0] += 1
  noise = np.concatenate([0.5 * spectrum, np.full(d, np.sqrt(np.mean(spectrum**2)))])
  noise = (noise * rng.standard_normal((m, 2 * d))).reshape(m, 2, d).sum(axis=1)
  q = c[:m] + noise
  c, q = (_unit(x @ turn).astype(np.float32) for x in (c, q))
  ids = [str(i) for i in range(n)]
  return Documents(ids, c, ids[:m], q, {i: {i: 1} for i in ids[:m]})


def twin_pairs(n: int = 200, d: int = 64, *, seed: int = 0) -> Pairs:
  """Generated pairs, whose scores are noisy cosines."""
  c = twin(2 * n, 1, d, seed=seed).c
  rng = np.random.default_rng(seed)
  mix = rng.random((n, 1)).astype(np.float32)
  a, b = c[:n], _unit(mix * c[:n] + (1 - mix) * c[n:])
  return Pairs(a, b, np.sum(a * b, axis=1) + 0.05 * rng.standard_normal(n), c)


def _pairs(path, arrays):
  a, b = _check(path, "a", arrays["a"]), _check(path, "b", arrays["b"])
  fit = _check(path, "fit", arrays["fit"]) if "fit" in arrays else np.concatenate([a, b])
  _same(path, a=a, b=b, fit=fit)
  score = np.asarray(arrays["score"])
  if score.shape != (len(a),) or len(a) != len(b) or not np.isfinite(score).all():
    raise ValueError(
      f"{path}: a, b and score must have as many finite rows, got {len(a)}, {len(b)} and "
      f"{list(score.shape)}"
    )
  return Pairs(a, b, score, fit)


def _held_out(path, arrays, judgements):
  """Documents and queries from the rows of the only table of a file."""
  tables = [name for name, x in arrays.items() if x.ndim == 2 and x.dtype.kind in "fiu"]
  if len(tables) != 1 or tables[0] == "q":
    raise ValueError(
      f"{path} must hold c and q, or a, b and score, or one table of vectors; it holds "
      f"{sorted(arrays)}"
    )
  if (name := str(arrays.get("manifold", "euclidean"))) != "euclidean":
    raise ValueError(f"{path} holds points of {name}, which inner products do not compare")
  if judgements:
    raise ValueError(f"{path} has no queries of its own that {judgements} could judge")
  x = arrays[tables[0]]
  if len(x) < 2:
    raise ValueError(f"{path}: {tables[0]} must have two rows or more, got {len(x)}")
  asked = np.zeros(len(x), bool)
  some = min(_QUERIES, max(1, len(x) // 10))
  asked[np.random.default_rng(0).permutation(len(x))[:some]] = True
  rows = np.arange(len(x))
  return dict(c=x[~asked], q=x[asked], doc_ids=rows[~asked], query_ids=rows[asked])


def _check(path, name, x):
  if x.ndim != 2 or not x.size or x.dtype.kind not in "fiu":
    raise ValueError(f"{path}: {name} must be numbers [n, d], got {x.dtype} {list(x.shape)}")
  x = x.astype(np.float32)
  for what, bad in (
    ("not finite", ~np.isfinite(x).all(axis=1)), ("zero", ~x.any(axis=1))
  ):  # fmt: skip
    if bad.any():
      first = np.flatnonzero(bad)[0]
      raise ValueError(f"{path}: {bad.sum()} vectors of {name} are {what}, first {first}")
  return x


def _same(path, **parts):
  if len({x.shape[1] for x in parts.values()}) > 1:
    sizes = ", ".join(f"{name} {x.shape[1]}" for name, x in parts.items())
    raise ValueError(f"{path}: vectors must have the same number of coordinates, got {sizes}")


def _ids(path, arrays, name, n):
  if name not in arrays:
    return [str(i) for i in range(n)]
  ids = [str(i) for i in arrays[name].ravel()]
  if len(ids) != n or len(set(ids)) != n:
    raise ValueError(f"{path}: {name} must be {n} different ids, got {len(set(ids))} of {len(ids)}")
  return ids


def _unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)
