"""Files of others: what they hold arrives, and what is wrong with them is said in one line."""

import codecs
import gzip
import json
import os
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from geoemb.tables import embedding, importers, store

KEYS = ("dog", "New_York", "Köln", "東京", "x.n.01", "12", "a/b")


def table(n=7, dim=5):
  return np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)


def text(keys, rows, header=True, end="\n"):
  head = [f"{len(keys)} {rows.shape[1]}"] if header else []
  return end.join([*head, *(" ".join([k, *map(str, r)]) for k, r in zip(keys, rows)), ""]).encode()


def binary(keys, rows, between=b"\n"):
  head = f"{len(keys)} {rows.shape[1]}\n".encode()
  return head + b"".join(
    k.encode() + b" " + r.tobytes() + between for k, r in zip(keys, rows.astype("<f4"))
  )


def check(path, keys=KEYS, rows=None):
  s = store.Store(path)
  s.verify()
  assert tuple(s.keys()) == tuple(keys)
  np.testing.assert_array_equal(s.table, table() if rows is None else rows, strict=True)


@pytest.mark.parametrize("block", [1, 1 << 18])
@pytest.mark.parametrize("pack", [lambda x: x, gzip.compress])
@pytest.mark.parametrize(
  "data",
  [
    text(KEYS, table()),
    text(KEYS, table(), header=False),
    text(KEYS, table(), end=" \r\n"),
    text(KEYS, table()).replace(b" ", b"\t"),
    text(KEYS, table()) + b"\n\n",
    text(KEYS, table())[:-1],
    codecs.BOM_UTF8 + text(KEYS, table()),
    codecs.BOM_UTF8 + text(KEYS, table(), header=False),
  ],
)
def test_word2vec_text_and_glove(tmp_path, monkeypatch, data, pack, block):
  monkeypatch.setattr(importers, "_NUMBERS", block)
  (tmp_path / "source").write_bytes(pack(data))
  importers.word2vec_text(tmp_path / "source", tmp_path / "x")
  check(tmp_path / "x")


def test_keys_of_text_may_have_blanks(tmp_path):
  keys = ("dog", ". . .", "at name@domain.com", "3 4")
  (tmp_path / "source").write_bytes(text(keys, table(4), header=False))
  importers.word2vec_text(tmp_path / "source", tmp_path / "x")
  check(tmp_path / "x", keys, table(4))


@pytest.mark.parametrize("block", [1, 1 << 18])
@pytest.mark.parametrize("pack", [lambda x: x, gzip.compress])
@pytest.mark.parametrize("between", [b"", b"\n"])
def test_word2vec_binary(tmp_path, monkeypatch, between, pack, block):
  monkeypatch.setattr(importers, "_NUMBERS", block)
  (tmp_path / "source").write_bytes(pack(binary(KEYS, table(), between)))
  importers.word2vec_binary(tmp_path / "source", tmp_path / "x")
  check(tmp_path / "x")


_LINES = text(KEYS, table()).splitlines(keepends=True)


def _line(i, new):
  return b"".join(new if j == i - 1 else line for j, line in enumerate(_LINES))


@pytest.mark.parametrize(
  "data, what",
  [
    (b"", "line 1: expected a key and numbers"),
    (b"dog\n", "line 1: expected a key and numbers"),
    (_line(3, b"cat 1 2 3\n"), "line 3: expected a key and 5 numbers, got 4 fields"),
    (_line(4, b"cat 1 2 x 4 5\n"), "line 4: expected a number, got b'x'"),
    (_line(5, b"\n"), "line 5: .* blank line"),
    (_line(5, b" 1 2 3 4 5\n"), "line 5: expected a key and 5 numbers, got 5 fields"),
    (_line(6, b"cat 1 2 nan 4 5\n"), "line 6: the vector is not finite"),
    (_line(6, b"dog 1 2 3 4 5\n"), "'dog' is there twice: .*line 2, .*line 6"),
    (_line(6, b"\xff 1 2 3 4 5\n"), "line 6: the key .* is no UTF-8"),
    (_line(1, b"9 5\n"), "promises 9 vectors, it has 7"),
    (gzip.compress(b"".join(_LINES))[:-30], "after line [0-9]: .*ended"),
    (_line(1, b"7 3\n"), "line [0-9]: expected a key and 3 numbers, got 5 numbers"),
    (
      b"dog 0.1 0.2\ncat 0.3 0.4 0.5\nowl 1.5 -2 3\nant 1.5 2 3\n",
      "line 2: expected a key and 2 numbers, got 3",
    ),
  ],
)
@pytest.mark.parametrize("block", [1, 1 << 18])
def test_malformed_text_is_one_line_and_overwrites_nothing(
  tmp_path, monkeypatch, data, what, block
):
  monkeypatch.setattr(importers, "_NUMBERS", block)
  (tmp_path / "source").write_bytes(data)
  (tmp_path / "x").write_bytes(b"old")
  with pytest.raises(ValueError, match=what) as caught:
    importers.word2vec_text(tmp_path / "source", tmp_path / "x")
  assert "\n" not in str(caught.value) and str(tmp_path / "source") in str(caught.value) + "source"
  assert (tmp_path / "x").read_bytes() == b"old"
  assert sorted(os.listdir(tmp_path)) == ["source", "x"]


_BINARY = binary(KEYS, table())


@pytest.mark.parametrize(
  "data, what",
  [
    (b"dog 1\n", "two counts"),
    (b"0 5\n", "two counts"),
    (_BINARY[:-8], "vector 7: the file ends here"),
    (_BINARY + b"more", "more follows"),
    (_BINARY.replace(b"dog", b"\xff\xff\xff"), "vector 1: the key .* is no UTF-8"),
    (binary(("a", "b", "a"), table(3)), "twice: .*vector 1, .*vector 3"),
    (binary(("a",), np.full((1, 2), np.nan)), "vector 1: the vector is not finite"),
    (b"2 3\n" + b"x" * (1 << 17), "vector 1: no blank ends the key"),
  ],
)
def test_malformed_binary_is_one_line(tmp_path, data, what):
  (tmp_path / "source").write_bytes(data)
  with pytest.raises(ValueError, match=what) as caught:
    importers.word2vec_binary(tmp_path / "source", tmp_path / "x")
  assert "\n" not in str(caught.value)
  assert os.listdir(tmp_path) == ["source"]


def test_our_own_runs(tmp_path):
  points = embedding.Embedding(KEYS, 0.1 * table(), "poincare", 0.5)
  points.save(tmp_path)
  for source in (tmp_path, tmp_path / "embedding.npz"):
    importers.run(source, tmp_path / "x")
    check(tmp_path / "x", KEYS, 0.1 * table())
    s = store.Store(tmp_path / "x")
    assert (s.manifold, s.c) == ("poincare", 0.5)


def _safetensors(described=(), **arrays):
  names = {"float32": "F32", "bfloat16": "BF16", "int64": "I64"}
  head, data = {"__metadata__": {"format": "pt"}}, b""
  for name, a in arrays.items():
    offsets = [len(data), len(data) + a.nbytes]
    head[name] = dict(dtype=names[a.dtype.name], shape=list(a.shape), data_offsets=offsets)
    head[name].update(described)
    data += a.tobytes()
  text = json.dumps(head).encode()
  return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_safetensors(tmp_path, dtype):
  x = table().astype(dtype)
  (tmp_path / "source").write_bytes(_safetensors(embeddings=x))
  importers.safetensors(tmp_path / "source", tmp_path / "x", KEYS)
  check(tmp_path / "x", KEYS, x)
  (tmp_path / "source").write_bytes(_safetensors(bias=np.zeros(3, np.float32), embeddings=x))
  importers.safetensors(tmp_path / "source", tmp_path / "x", KEYS, tensor="embeddings")
  check(tmp_path / "x", KEYS, x)
  for data, options, what in (
    (_safetensors(a=x, b=x), {}, r"one of its tensors \['a', 'b'\], got None"),
    (_safetensors(a=x)[:-1], {}, "cut short"),
    (_safetensors(a=np.zeros((7, 2), np.int64)), {}, "I64"),
    (b"no", {}, "safetensors"),
    (b"\xff" * 20, {}, "longer than the file"),
    (_safetensors(a=x[:3]), {}, "3 and 7"),
    (_safetensors(dict(data_offsets=[-x.nbytes, 0]), a=x), {}, "the place -[0-9]+:0"),
    (_safetensors(dict(shape=[]), a=x), {}, r"the shape \(\)"),
    (_safetensors(dict(shape=[7.0, 5]), a=x), {}, r"the shape \(7.0, 5\)"),
  ):
    (tmp_path / "source").write_bytes(data)
    with pytest.raises(ValueError, match=what) as caught:
      importers.safetensors(tmp_path / "source", tmp_path / "x", KEYS, **options)
    assert "\n" not in str(caught.value)
  check(tmp_path / "x", KEYS, x)


def test_safetensors_of_its_own_package(tmp_path):
  numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
  numpy.save_file({"embeddings": table()}, tmp_path / "source")
  importers.safetensors(tmp_path / "source", tmp_path / "x", KEYS)
  check(tmp_path / "x")


@pytest.mark.parametrize("is_binary", [False, True])
def test_what_gensim_writes(tmp_path, is_binary):
  models = pytest.importorskip("gensim.models", reason="gensim is not installed")
  peer = models.KeyedVectors(5)
  peer.add_vectors(list(KEYS), table())
  peer.save_word2vec_format(str(tmp_path / "source"), binary=is_binary)
  load = importers.word2vec_binary if is_binary else importers.word2vec_text
  load(tmp_path / "source", tmp_path / "x")
  check(tmp_path / "x")


@pytest.mark.parametrize("is_binary", [False, True])
def test_memory_is_that_of_a_block_and_the_keys(tmp_path, monkeypatch, is_binary):
  """Of a table of 1 MB not even a half is in memory at a time."""
  monkeypatch.setattr(importers, "_NUMBERS", 1 << 11)
  monkeypatch.setattr(importers, "_READ", 1 << 14)
  rows = np.zeros((1250, 200), np.float32)
  keys = [f"w{i}" for i in range(len(rows))]
  (tmp_path / "source").write_bytes((binary if is_binary else text)(keys, rows))
  load = importers.word2vec_binary if is_binary else importers.word2vec_text
  tracemalloc.start()
  try:
    load(tmp_path / "source", tmp_path / "x", grams=False)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  check(tmp_path / "x", keys, rows)
  assert peak < rows.nbytes / 2
