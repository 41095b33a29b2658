"""Text encoders: against a transformer typed in numpy, against foreign vectors, and their cache."""

import json
import os

import jax
import numpy as np
import pytest

from geoemb.data import beir
from geoemb.models import bert, sentence_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
TEXTS = ["a b c", "", "d e f g h i j a b c", "zz a", "j"]


def tensors(family, rng, *, d=8, layers=2, hidden=12, positions=40):
  """A checkpoint of random numbers, by the names of its family."""
  names = bert.FAMILIES[family]
  random = lambda *shape: rng.normal(0, 0.5, shape).astype(np.float32)
  found = {names["words"]: random(len(WORDS), d), names["positions"]: random(positions, d)}
  if family in ("bert", "roberta"):
    found[names["types"]] = random(2, d)
  if family == "mpnet":
    found[names["relative"]] = random(32, 2)
  shapes = {name: (d, d) for name in names["qkv"]} | {names["out"]: (d, d)}
  shapes |= {names["up"]: (hidden, d), names["down"]: (d, hidden)}
  norms = [names["norm"]]
  for i in range(layers):
    at = f"{names['layer'].format(i)}."
    for name, shape in shapes.items():
      found |= {f"{at}{name}.weight": random(*shape), f"{at}{name}.bias": random(shape[0])}
    norms += [at + names["attention_norm"], at + names["layer_norm"]]
  for name in norms:
    found |= {f"{name}.weight": 1 + random(d), f"{name}.bias": random(d)}
  return found


def config(family, **changes):
  sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
  raw = dict(zip(sizes, (8, 2, 2, 12))) | {"hidden_act": "gelu"}
  if family == "distilbert":
    raw = dict(dim=8, n_layers=2, n_heads=2, hidden_dim=12, activation="gelu")
  raw |= dict(model_type=family, vocab_size=len(WORDS), max_position_embeddings=40)
  return raw | dict(type_vocab_size=2, layer_norm_eps=1e-5, pad_token_id=1) | changes


def save(folder, family="bert", *, modules=None, **changes):
  """A model of random numbers as sentence-transformers saves one."""
  tokenizers = pytest.importorskip("tokenizers", reason="the extra text has it")
  writer = pytest.importorskip("safetensors.numpy", reason="the extra text has it")
  os.makedirs(folder, exist_ok=True)
  write = lambda name, value: (folder / name).write_text(json.dumps(value))
  write("config.json", config(family, **changes))
  writer.save_file(tensors(family, np.random.default_rng(0)), folder / "model.safetensors")
  model = tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
  )
  tokenizer.save(str(folder / "tokenizer.json"))
  if modules is not None:
    kinds = [("Transformer", ""), *modules]
    write("modules.json", [dict(type=f"st.models.{k}", path=path) for k, path in kinds])
  return folder


def rewrite(path, change):
  raw = json.loads(path.read_text())
  change(raw)
  path.write_text(json.dumps(raw))


def reference(family, held, ids):
  """States of all layers for one text, [layers + 1, t, d], in float64 as papers write it."""
  names = bert.FAMILIES[family]
  get = lambda name: held[name].astype(np.float64)
  dense = lambda x, name: x @ get(f"{name}.weight").T + get(f"{name}.bias")

  def norm(x, name):
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
    return x * get(f"{name}.weight") + get(f"{name}.bias")

  erf = np.vectorize(__import__("math").erf)
  t = len(ids)
  first = 2 if family in ("roberta", "mpnet") else 0
  x = get(names["words"])[ids] + get(names["positions"])[first : first + t]
  if family in ("bert", "roberta"):
    x = x + get(names["types"])[0]
  x = norm(x, names["norm"])
  states = [x]
  for i in range(2):
    at = f"{names['layer'].format(i)}."
    q, k, v = (dense(x, at + name).reshape(t, 2, 4).transpose(1, 0, 2) for name in names["qkv"])
    scores = q @ k.transpose(0, 2, 1) / 2
    if family == "mpnet":  # near positions have buckets of their own: 0 … 7, and 16 + 1 … 7 after
      away = np.arange(t)[None] - np.arange(t)[:, None]
      assert np.abs(away).max() < 8
      scores += get(names["relative"])[np.where(away > 0, 16, 0) + np.abs(away)].transpose(2, 0, 1)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weight /= weight.sum(axis=-1, keepdims=True)
    mixed = (weight @ v).transpose(1, 0, 2).reshape(t, 8)
    x = norm(x + dense(mixed, at + names["out"]), at + names["attention_norm"])
    up = dense(x, at + names["up"])
    down = dense(up * (1 + erf(up / np.sqrt(2))) / 2, at + names["down"])
    x = norm(x + down, at + names["layer_norm"])
    states.append(x)
  return np.stack(states)


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "distilbert"])
def test_states_of_every_family(family, tmp_path):
  folder = save(tmp_path / family, family)
  network, params = bert.load(folder)
  ids = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]], np.int32)
  mask = np.array([[True] * 5, [True] * 3 + [False] * 2])
  got = np.asarray(jax.jit(network.apply)(params, ids, mask))
  held = tensors(family, np.random.default_rng(0))
  # Both in one line as well, after each other and padding.
  line = np.concatenate([ids[0], [0, 0], ids[1, :3]])[None]
  text = np.array([[1] * 5 + [0] * 2 + [2] * 3], np.int32)
  lined = np.asarray(jax.jit(network.apply)(params, line, text))[:, 0]
  for i, (n, there) in enumerate(((5, lined[:, :5]), (3, lined[:, 7:]))):
    want = reference(family, held, ids[i, :n])
    for found in (got[:, i, :n], there):
      np.testing.assert_allclose(found, want, rtol=2e-4, atol=2e-5)


def test_far_relative_positions_share_buckets():
  """8 buckets a side are exact, the other 8 logarithmic up to 128; computed by hand."""
  row = bert._buckets(300, 32)[0]
  np.testing.assert_array_equal(row[:9], [0, 17, 18, 19, 20, 21, 22, 23, 24])
  assert (row[128:] == 31).all() and (np.diff(row[1:]) >= 0).all()
  assert row[16] == 24 + 2 and row[64] == 24 + 6  # 8 · log(n/8) / log(16)
  np.testing.assert_array_equal(bert._buckets(300, 32)[:, 0][1:], row[1:] - 16)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_and_tokens(pooling, tmp_path):
  key = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}[pooling]
  folder = save(tmp_path / "model", modules=[("Pooling", "1_Pooling")])
  (folder / "1_Pooling").mkdir()
  (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{key}": True}))
  encoder = sentence_encoder.load(folder)
  vectors = encoder.encode(TEXTS)
  assert vectors.shape == (5, encoder.dim) and vectors.dtype == np.float32
  tokens = encoder.encode_tokens(TEXTS, normalize=False)
  held = tensors("bert", np.random.default_rng(0))
  pool = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "max": lambda x: x.max(0)}[pooling]
  for i, ids in enumerate(encoder.tokens(TEXTS)):
    states = reference("bert", held, ids)
    mine = slice(tokens.start[i], tokens.start[i + 1])
    np.testing.assert_array_equal(tokens.ids[mine], ids)
    np.testing.assert_allclose(tokens.vectors[mine], states[-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(vectors[i], pool(states[-1]), rtol=1e-3, atol=1e-4)
  layer = encoder.encode(TEXTS[:1], layer=1)
  np.testing.assert_allclose(
    layer[0], pool(reference("bert", held, encoder.tokens(TEXTS)[0])[1]), 1e-3, 1e-4
  )


def test_dense_head_and_unit_length(tmp_path):
  writer = pytest.importorskip("safetensors.numpy", reason="the extra text has it")
  folder = save(tmp_path, modules=[("Pooling", "p"), ("Dense", "d"), ("Normalize", "n")])
  kernel = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
  for part, held in (("p", {"pooling_mode": "cls"}), ("d", {"activation_function": "nn.Tanh"})):
    (folder / part).mkdir()
    (folder / part / "config.json").write_text(json.dumps(held))
  writer.save_file({"linear.weight": kernel}, folder / "d" / "model.safetensors")
  encoder = sentence_encoder.load(folder)
  got = encoder.encode(TEXTS)
  first = encoder.encode_tokens(TEXTS, normalize=False)
  want = np.tanh(first.vectors[first.start[:-1]] @ kernel.T)
  want /= np.linalg.norm(want, axis=1, keepdims=True)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  assert encoder.dim == 3


def test_batches_do_not_matter_and_texts_are_truncated(tmp_path):
  encoder = sentence_encoder.load(save(tmp_path))
  texts = [" ".join("abcdefghij"[(i * j) % 10] for j in range(i)) for i in (0, 1, 2, 3, 4, 5, 60)]
  some = encoder.encode(texts)
  np.testing.assert_allclose(encoder.encode(texts, batch_tokens=20), some, rtol=1e-4, atol=1e-5)
  assert max(map(len, encoder.tokens(texts))) == 40
  assert encoder.encode([]).size == 0


def test_cache(tmp_path):
  encoder = sentence_encoder.load(save(tmp_path / "model"))
  seen = []
  call = lambda texts: encoder.encode(
    texts, cache=tmp_path / "cache", progress=lambda done, total: seen.append((done, total))
  )
  first = call(TEXTS)
  assert seen[-1] == (5, 5)
  seen.clear()
  again = call([*TEXTS[::-1], "a new one", TEXTS[0]])
  assert seen == [(1, 1)]
  np.testing.assert_array_equal(again[:5], first[::-1])
  np.testing.assert_array_equal(again[6], first[0])
  for path in (tmp_path / "cache").rglob("*.npz"):  # damaged files are computed anew
    path.write_bytes(path.read_bytes()[:-30])
  seen.clear()
  np.testing.assert_array_equal(call(TEXTS), first)
  assert seen[-1] == (5, 5)
  other = sentence_encoder.load(save(tmp_path / "other", layer_norm_eps=1e-3))
  assert other.identity != encoder.identity
  assert not np.array_equal(other.encode(TEXTS, cache=tmp_path / "cache"), first)


@pytest.mark.parametrize(
  ("spoil", "error", "message"),
  [
    (lambda f: (f / "config.json").unlink(), FileNotFoundError, "config.json not found"),
    (lambda f: (f / "config.json").write_text("{"), ValueError, "is not JSON"),
    (lambda f: save(f, model_type="gpt2"), ValueError, "model_type must be one of bert"),
    (lambda f: save(f, hidden_size=16), ValueError, "by config.json, got"),
    (lambda f: save(f, num_hidden_layers=3), ValueError, "lacks the tensor 'encoder.layer.2"),
    (
      lambda f: save(f, num_hidden_layers=1),
      ValueError,
      "safetensors has the layer 'encoder.layer.1'",
    ),
    (lambda f: save(f, modules=[("Weird", "")]), ValueError, "st.models.Weird is not known"),
    (lambda f: save(f, modules=[("Pooling", 3)]), ValueError, "must list modules, each with its"),
    (
      lambda f: rewrite(f / "tokenizer.json", lambda raw: raw["model"]["vocab"].update(k=14)),
      ValueError,
      "tokenizer.json: ids must be below the network's vocab_size 14, got 14",
    ),
    (
      lambda f: rewrite(
        f / "tokenizer.json",
        lambda raw: raw["post_processor"]["special_tokens"]["[SEP]"].update(ids=[99]),
      ),
      ValueError,
      "tokenizer.json: ids must be below the network's vocab_size 14, got 99",
    ),
    (lambda f: (f / "tokenizer.json").write_text("{}"), ValueError, "is no tokenizer"),
    (lambda f: (f / "tokenizer.json").unlink(), FileNotFoundError, "tokenizer.json not found"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\1\2"), ValueError, "is damaged"),
    (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "safetensors not found"),
  ],
  ids=range(14),
)
def test_bad_models_are_refused(spoil, error, message, tmp_path):
  spoil(save(tmp_path))
  with pytest.raises(error) as caught:
    sentence_encoder.load(tmp_path)
  assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("family", "changes", "message"),
  [
    ("bert", {"num_attention_heads": 3}, "hidden_size must be a multiple of 3 heads, got 8"),
    ("bert", {"num_attention_heads": 0}, "num_attention_heads must be an integer ≥ 1, got 0"),
    ("bert", {"num_attention_heads": "2"}, "num_attention_heads must be an integer ≥ 1, got '2'"),
    ("bert", {"num_hidden_layers": 0}, "num_hidden_layers must be an integer ≥ 1, got 0"),
    ("bert", {"num_hidden_layers": True}, "num_hidden_layers must be an integer ≥ 1, got True"),
    ("bert", {"hidden_size": 8.0}, "hidden_size must be an integer ≥ 1, got 8.0"),
    ("bert", {"vocab_size": []}, r"vocab_size must be an integer ≥ 1, got \[\]"),
    ("bert", {"layer_norm_eps": "x"}, "layer_norm_eps must be a positive number, got 'x'"),
    ("bert", {"layer_norm_eps": -1}, "layer_norm_eps must be a positive number, got -1"),
    ("bert", {"model_type": []}, r"model_type must be one of bert, .*, got \[\]"),
    ("bert", {"hidden_act": []}, r"hidden_act must be one of gelu, .*, got \[\]"),
    ("roberta", {"pad_token_id": -1}, "pad_token_id must be an integer ≥ 0, got -1"),
    ("roberta", {"pad_token_id": 40}, "max_position_embeddings must be an integer ≥ 42, got 40"),
    ("mpnet", {"relative_attention_num_buckets": 2}, "buckets must be an integer ≥ 4, got 2"),
    ("distilbert", {"n_heads": 5}, "hidden_size must be a multiple of 5 heads, got 8"),
  ],
)
def test_bad_sizes_are_refused(family, changes, message, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps(config(family, **changes)))
  with pytest.raises(ValueError, match=f"config.json: .*{message}$"):
    bert.read_config(tmp_path)


def test_texts_are_as_long_as_the_settings_say(tmp_path):
  save(tmp_path)
  settings = tmp_path / "sentence_bert_config.json"
  for length, want in ((5, 5), (None, 40)):
    settings.write_text(json.dumps({"max_seq_length": length}))
    (ids,) = sentence_encoder.load(tmp_path).tokens(["a " * 60])
    assert len(ids) == want
  for length in (-5, "128"):
    settings.write_text(json.dumps({"max_seq_length": length}))
    with pytest.raises(ValueError, match=f"config.json: .* integer ≥ 1, got {length!r}$"):
      sentence_encoder.load(tmp_path)


def test_bad_texts_are_refused(tmp_path):
  encoder = sentence_encoder.load(save(tmp_path))
  with pytest.raises(ValueError, match="sequence of strings, got str"):
    encoder.encode("one text")
  for call in (encoder.encode, encoder.encode_tokens, encoder.tokens):
    with pytest.raises(ValueError, match="but text 2 has half of a pair of surrogates at 3$"):
      call(["a", "\U0001f600", "b c\ud800", "d"])
  with pytest.raises(ValueError, match="between 0 and 2, got 3"):
    encoder.encode(["a"], layer=3)
  with pytest.raises(FileNotFoundError, match="no such model not found"):
    sentence_encoder.load("no such model")


@pytest.fixture(scope="module")
def minilm():
  try:
    return sentence_encoder.load("minilm")
  except (FileNotFoundError, ImportError) as error:
    pytest.skip(str(error))


def test_minilm_published_scores(minilm):
  """Similarities to the first sentence, as the model's page shows them."""
  happy = ["That is a happy person", "That is a happy dog", "That is a very happy person"]
  vectors = minilm.encode([*happy, "Today is a sunny day"])
  np.testing.assert_allclose(vectors[1:] @ vectors[0], [0.6946, 0.9429, 0.2569], atol=1e-4)


def test_minilm_agrees_with_shipped_vectors(minilm, data_root):
  """float16 vectors of SciFact, computed by another program."""
  collection = beir.load("scifact", root=data_root)
  with np.load(os.path.join(data_root, "scifact", "minilm_f16.npz")) as held:
    want = held["q"][:24].astype(np.float32), held["c"][:4].astype(np.float32)
  got = minilm.encode(collection.queries[:24]), minilm.encode(collection.docs[:4])
  for ours, theirs in zip(got, want):
    np.testing.assert_allclose((ours * theirs).sum(axis=1), 1, atol=3e-4)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_agrees_with_sentence_transformers(minilm):
  peer = pytest.importorskip("sentence_transformers", reason="is the reference")
  texts = ["A tree grows.", "Hyperbolic space holds trees; spheres hold directions.", ""]
  theirs = peer.SentenceTransformer(sentence_encoder.minilm_folder(), device="cpu").encode(texts)
  np.testing.assert_allclose(minilm.encode(texts), theirs, atol=1e-5)
