"""Files are whole whoever writes them; damage is read over or said in one line."""

import gzip
import io
import os

import numpy as np
import pytest

from geoemb.data import beir, edge_list, files, qrels, vectors
from geoemb.tables import embedding, importers


def test_of_writers_at_a_time_each_writes_a_whole_file(tmp_path):
  path = tmp_path / "x"

  def slow(file):
    file.write(b"a" * 10)
    files.replace(path, lambda other: other.write(b"b" * 20))
    assert path.read_bytes() == b"b" * 20
    file.write(b"a" * 10)

  files.replace(path, slow)
  assert path.read_bytes() == b"a" * 20
  assert os.listdir(tmp_path) == ["x"]


def test_a_failed_writer_leaves_the_old_file(tmp_path):
  path = tmp_path / "x"
  path.write_bytes(b"old")

  def broken(file):
    file.write(b"new")
    raise OSError("no space left")

  with pytest.raises(OSError, match="no space"):
    files.replace(path, broken)
  assert path.read_bytes() == b"old"
  assert os.listdir(tmp_path) == ["x"]


def _npz(**arrays):
  file = io.BytesIO()
  np.savez_compressed(file, **arrays)
  return file.getvalue()


_ROWS = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
_TEXT = "".join(f"k{i} {' '.join(map(str, row))}\n" for i, row in enumerate(_ROWS)).encode()
_BINARY = b"6 3\n" + b"".join(b"k%d %s\n" % (i, row.tobytes()) for i, row in enumerate(_ROWS))
_POINTS = dict(names=np.array(list("abcdef")), table=_ROWS, manifold=np.array("lorentz"), c=1.0)
_TARGET = lambda path: os.path.join(os.path.dirname(path), "target")
_READERS = {
  "qrels": (qrels.read, gzip.compress(b"q1 0 d1 1\nq2 0 d2 1\n")),
  "run": (qrels.read_run, gzip.compress(b"q1 Q0 d1 1 0.5 x\n")),
  "edges": (edge_list.read, gzip.compress(b"a b\nb c\nc d\n")),
  "vectors": (vectors.load, _npz(c=_ROWS, q=_ROWS)),
  "embedding": (embedding.Embedding.load, _npz(**_POINTS)),
  "text": (lambda path: importers.word2vec_text(path, _TARGET(path)), gzip.compress(_TEXT)),
  "binary": (lambda path: importers.word2vec_binary(path, _TARGET(path)), gzip.compress(_BINARY)),
  "texts": (beir.texts, '{"_id": "1", "text": "Köln"}\n{"_id": "2", "text": "b"}\n'.encode()),
}


@pytest.mark.parametrize("name", _READERS)
def test_damage_is_one_line_that_names_the_file(tmp_path, name):
  read, data = _READERS[name]
  path = str(tmp_path / f"source{'.npz' if data.startswith(b'PK') else ''}")
  damaged = [data[:i] for i in range(0, len(data), 3)]
  damaged += [data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :] for i in range(len(data))]
  damaged += [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
  refused = 0
  for some in damaged:
    with open(path, "wb") as file:
      file.write(some)
    try:
      read(path)
    except ValueError as error:
      refused += 1
      assert path in str(error) and "\n" not in str(error)
  assert refused > len(data) // 3
