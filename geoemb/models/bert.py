"""Transformer encoders of the BERT family, from safetensors.

    network, params = bert.load("path/of/a/model")
    layers = network.apply(params, ids, text)   # [layers + 1, b, t, h]

BERT [devlin2019bert] (MiniLM [wang2020minilm] is one), RoBERTa and XLM-RoBERTa, DistilBERT, and
MPNet, whose attention adds a learned bias by relative position. All are post-norm: every block is
x ← LN(x + f(x)). Layers are stacked and scanned: a model of any depth compiles as one layer.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from geoemb.typing import Array, PyTree

_ACTIVATIONS = {
  "gelu": lambda x: nn.gelu(x, approximate=False),
  "gelu_new": nn.gelu,
  "gelu_pytorch_tanh": nn.gelu,
  "relu": nn.relu,
  "silu": nn.silu,
}


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of an encoder."""

  family: str  # a key of FAMILIES
  vocabulary: int
  width: int  # h
  layers: int
  heads: int
  hidden: int  # of the feed-forward blocks
  positions: int
  types: int = 0  # token types; all tokens are of type 0
  first_position: int = 0  # of the first token
  relative: int = 0  # buckets of relative positions
  epsilon: float = 1e-12  # of the layer norms
  activation: str = "gelu"


class Layer(nn.Module):
  """Self-attention and a feed-forward block."""

  config: Config

  @nn.compact
  def __call__(self, x: Array, bias: Array) -> tuple[Array, Array]:
    """Tokens [b, t, h] to tokens, twice; `bias` is added to the scores of attention."""
    config = self.config
    b, t, h = x.shape
    norm = lambda x, name: nn.LayerNorm(config.epsilon, name=name)(x)
    parts = nn.Dense(3 * h, name="qkv")(x).reshape(b, t, 3, config.heads, -1)
    q, k, v = jnp.moveaxis(parts, (2, 3), (0, 2))  # [b, heads, t, h / heads] each
    scores = jnp.einsum("bnqd,bnkd->bnqk", q, k) / math.sqrt(q.shape[-1]) + bias
    mixed = jnp.einsum("bnqk,bnkd->bqnd", nn.softmax(scores, axis=-1), v).reshape(b, t, h)
    x = norm(x + nn.Dense(h, name="out")(mixed), "attention_norm")
    inner = _ACTIVATIONS[config.activation](nn.Dense(config.hidden, name="up")(x))
    x = norm(x + nn.Dense(h, name="down")(inner), "norm")
    return x, x


class Encoder(nn.Module):
  """Embeddings and layers."""

  config: Config

  @nn.compact
  def __call__(self, ids: Array, text: Array) -> Array:
    """Hidden states of all layers, [layers + 1, b, t, h]: first the embeddings, last the output.

    Args:
      ids: [b, t] int32 tokens.
      text: [b, t] int32, which text a token is of; texts lie one after another, and neighbours have
        different numbers. 0 is padding: what comes out there means nothing. A mask will do where
        every line has one text.
    """
    config = self.config
    t = ids.shape[1]
    embed = lambda n, name: self.param(name, nn.initializers.normal(0.02), (n, config.width))
    at = jnp.arange(t, dtype=jnp.int32)
    begins = jnp.pad(text[:, 1:] != text[:, :-1], ((0, 0), (1, 0)))
    place = config.first_position + at - jax.lax.cummax(jnp.where(begins, at, 0), axis=1)
    x = embed(config.vocabulary, "words")[ids] + embed(config.positions, "positions")[place]
    if config.types:
      x = x + embed(config.types, "types")[0]
    x = nn.LayerNorm(config.epsilon, name="norm")(x)
    same = text[:, None, :, None] == text[:, None, None, :]
    bias = jnp.where(same, 0, jnp.finfo(x.dtype).min / 2).astype(x.dtype)
    if config.relative:
      table = self.param("relative", nn.initializers.zeros, (config.relative, config.heads))
      bias = bias + jnp.moveaxis(table[_buckets(t, config.relative)], -1, 0)
    stacked = nn.scan(
      Layer,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=nn.broadcast,
      length=config.layers,
    )
    _, states = stacked(config, name="layers")(x, bias)
    return jnp.concatenate([x[None], states])


def _buckets(t: int, buckets: int) -> np.ndarray:
  """Buckets of relative positions, [t, t]: exact to 1/4 of them, then logarithmic to 128 tokens.

  As T5 and MPNet have them: the later half of the buckets is for keys after the query.
  """
  half = buckets // 2
  distance = np.arange(t)[None] - np.arange(t)[:, None]  # key − query
  n, exact = np.abs(distance), half // 2
  far = exact + np.log(np.maximum(n, 1) / exact) / np.log(128 / exact) * (half - exact)
  # Single precision and truncation, as in the models' own code: weights were trained so.
  far = np.minimum(far.astype(np.float32).astype(np.int32), half - 1)
  return np.where(distance > 0, half, 0) + np.where(n < exact, n, far)


_BERT = {
  "words": "embeddings.word_embeddings.weight",
  "positions": "embeddings.position_embeddings.weight",
  "types": "embeddings.token_type_embeddings.weight",
  "norm": "embeddings.LayerNorm",
  "layer": "encoder.layer.{}",
  "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
  "out": "attention.output.dense",
  "attention_norm": "attention.output.LayerNorm",
  "up": "intermediate.dense",
  "down": "output.dense",
  "layer_norm": "output.LayerNorm",
}
_MPNET = _BERT | {
  "relative": "encoder.relative_attention_bias.weight",
  "qkv": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
  "out": "attention.attn.o",
  "attention_norm": "attention.LayerNorm",
}
_DISTIL = _BERT | {
  "layer": "transformer.layer.{}",
  "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
  "out": "attention.out_lin",
  "attention_norm": "sa_layer_norm",
  "up": "ffn.lin1",
  "down": "ffn.lin2",
  "layer_norm": "output_layer_norm",
}
# What a checkpoint calls the parameters, by its `model_type`.
FAMILIES = {
  "bert": _BERT,
  "roberta": _BERT,
  "xlm-roberta": _BERT,
  "camembert": _BERT,
  "mpnet": _MPNET,
  "distilbert": _DISTIL,
}
# DistilBERT's names of the sizes.
_ALIASES = {
  "hidden_size": "dim",
  "num_hidden_layers": "n_layers",
  "num_attention_heads": "n_heads",
  "intermediate_size": "hidden_dim",
  "hidden_act": "activation",
}


def load(folder: str | os.PathLike) -> tuple[Encoder, PyTree]:
  """Network and parameters, float32, from a folder with config.json and model.safetensors.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the model is of another family, or the files do not hold what they should.
    ImportError: safetensors is not installed; the extra `text` brings it.
  """
  config = read_config(folder)
  path = os.path.join(folder, "model.safetensors")
  if not os.path.exists(path):
    raise FileNotFoundError(f"{path} not found: weights are read from safetensors only")
  return Encoder(config), params(config, read_safetensors(path), path)


def read_config(folder: str | os.PathLike) -> Config:
  """Sizes from a folder's config.json, see `load`."""
  path = os.path.join(folder, "config.json")
  raw = read_json(path)

  def get(name, default=None):
    value = raw.get(name, raw.get(_ALIASES.get(name), default))
    if value is None:
      raise ValueError(f"{path} lacks {name!r}")
    return value

  def one_of(name, known):
    value = get(name)
    if not isinstance(value, str) or value not in known:
      raise ValueError(f"{path}: {name} must be one of {', '.join(known)}, got {value!r}")
    return value

  def integer(name, default=None, least=1):
    value = get(name, default)
    if type(value) is not int or value < least:  # a bool is an int
      raise ValueError(f"{path}: {name} must be an integer ≥ {least}, got {value!r}")
    return value

  family = one_of("model_type", FAMILIES)
  if get("position_embedding_type", "absolute") != "absolute":
    raise ValueError(f"{path}: only absolute position embeddings are read")
  epsilon = get("layer_norm_eps", 1e-12)
  if type(epsilon) not in (int, float) or not 0 < epsilon < math.inf:
    raise ValueError(f"{path}: layer_norm_eps must be a positive number, got {epsilon!r}")
  width, heads = integer("hidden_size"), integer("num_attention_heads")
  if width % heads:
    raise ValueError(f"{path}: hidden_size must be a multiple of {heads} heads, got {width}")
  # These families count from the one after padding's.
  first = 0 if family in ("bert", "distilbert") else integer("pad_token_id", 1, 0) + 1
  return Config(
    family=family,
    vocabulary=integer("vocab_size"),
    width=width,
    layers=integer("num_hidden_layers"),
    heads=heads,
    hidden=integer("intermediate_size"),
    positions=integer("max_position_embeddings", least=first + 1),
    types=0 if family in ("mpnet", "distilbert") else integer("type_vocab_size", least=0),
    first_position=first,
    # Fewer would leave none of a side's buckets for single distances.
    relative=integer("relative_attention_num_buckets", 32, 4) if family == "mpnet" else 0,
    epsilon=epsilon,
    activation=one_of("hidden_act", _ACTIVATIONS),
  )


def params(config: Config, tensors: Mapping[str, np.ndarray], path: str) -> PyTree:
  """Parameters of `Encoder(config)` out of a checkpoint's tensors.

  Raises:
    ValueError: a tensor is missing, has another shape, or is of a layer that the config does not
      have; the message names it and `path`.
  """
  names = FAMILIES[config.family]
  # Heads on top and wrappers put a prefix before everything, such as "bert.".
  ends = [key for key in tensors if key.endswith(names["words"])]
  prefix = ends[0].removesuffix(names["words"]) if ends else ""

  def get(name: str) -> np.ndarray:
    if prefix + name not in tensors:
      raise ValueError(f"{path} lacks the tensor {prefix + name!r} of a {config.family} model")
    return np.asarray(tensors[prefix + name], np.float32)

  def dense(*names: str) -> dict[str, np.ndarray]:
    weight = np.concatenate([get(f"{name}.weight") for name in names])
    return {"kernel": weight.T, "bias": np.concatenate([get(f"{name}.bias") for name in names])}

  def norm(name: str) -> dict[str, np.ndarray]:
    return {"scale": get(f"{name}.weight"), "bias": get(f"{name}.bias")}

  def layer(i: int) -> PyTree:
    at = lambda name: f"{names['layer'].format(i)}.{name}"
    return {
      "qkv": dense(*map(at, names["qkv"])),
      **{part: dense(at(names[part])) for part in ("out", "up", "down")},
      "attention_norm": norm(at(names["attention_norm"])),
      "norm": norm(at(names["layer_norm"])),
    }

  beyond = f"{prefix}{names['layer'].format(config.layers)}."
  if any(key.startswith(beyond) for key in tensors):
    raise ValueError(
      f"{path} has the layer {beyond[:-1]!r}, of {config.layers} layers by config.json"
    )
  tables = ["words", "positions"]
  tables += ["types"] * bool(config.types) + ["relative"] * bool(config.relative)
  found = {name: get(names[name]) for name in tables}
  found["norm"] = norm(names["norm"])
  found["layers"] = jax.tree.map(lambda *x: np.stack(x), *map(layer, range(config.layers)))
  found = {"params": found}
  ids, mask = (jax.ShapeDtypeStruct((1, 2), dtype) for dtype in (jnp.int32, jnp.bool_))
  shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0), ids, mask)
  for (where, want), got in zip(jax.tree.leaves_with_path(shapes), jax.tree.leaves(found)):
    if want.shape != got.shape:
      name = jax.tree_util.keystr(where, simple=True, separator=".")
      raise ValueError(f"{path}: {name} must be {want.shape} by config.json, got {got.shape}")
  return found


def read_json(path: str, kind: type = dict) -> dict | list:
  """What a file holds: one object, or, with `kind`, one list.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no JSON, or of another kind.
  """
  if not os.path.exists(path):
    raise FileNotFoundError(f"{path} not found: it belongs to the folder of a model")
  with open(path, encoding="utf-8") as file:
    try:
      found = json.load(file)
    except ValueError as error:
      raise ValueError(f"{path} is not JSON: {error}") from None
  if not isinstance(found, kind):
    raise ValueError(f"{path} must hold one {'object' if kind is dict else 'list'}")
  return found


def read_safetensors(path: str) -> dict[str, np.ndarray]:
  """All tensors of a file.

  Raises:
    ValueError: the file is damaged.
    ImportError: safetensors is not installed.
  """
  try:
    import safetensors
    from safetensors import numpy as reader
  except ImportError:
    raise ImportError("reading weights needs safetensors: pip install 'geoemb[text]'") from None
  try:
    return reader.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f"{path} is damaged: {error}") from None
