"""Codecs give back what their format can hold, in as many bytes as they say."""

import ml_dtypes
import numpy as np
import pytest

from geoemb.retrieval import codecs

N, D = 300, 24


def vectors(n=N, d=D, seed=0):
  x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  x[:, 3] = 0.25  # a dead coordinate
  return x


# Bits of a coordinate, beside whole bytes a vector, and the largest error by coordinate.
PLAIN = {
  "float32": (32, 0, 0),
  "float16": (16, 0, 2**-11),
  "bfloat16": (16, 0, 2**-8),
  "float8_e4m3": (8, 0, 2**-4),
  "float8_e5m2": (8, 0, 2**-3),
  "scaled_float8_e4m3": (8, 0, 2**-4),
  "scaled_float4_e2m1": (4, 0, 0.25),
  "int8": (8, 0, 1 / 255),
  "binary": (1, 0, 2),
}


@pytest.mark.parametrize("d", [D, D - 3])  # the last byte is full, or is not
@pytest.mark.parametrize("name", PLAIN)
def test_bytes_and_errors(name, d):
  bits, extra, error = PLAIN[name]
  x = vectors(d=d)
  codec = codecs.make(name, x)
  codes = codec.encode(x)
  assert codes.dtype == np.uint8
  assert codes.shape == (N, codec.nbytes) and codec.nbytes == -(-bits * d // 8) + extra
  assert codes.nbytes == N * codec.nbytes
  back = codec.decode(codes)
  assert back.dtype == np.float32 and back.shape == x.shape
  np.testing.assert_array_less(np.abs(back - x), error + 1e-7)
  if name != "binary":
    np.testing.assert_array_equal(codec.encode(back), codes)  # what was stored once stays


def test_floats_are_rounded_to_the_nearest():
  """Against all values of the format, decoded one by one."""
  x = vectors(50)
  for name, dtype in (("float8_e4m3", ml_dtypes.float8_e4m3fn), ("float4_e2m1", None)):
    every = np.arange(256 if dtype else 16, dtype=np.uint8)
    values = every.view(dtype or ml_dtypes.float4_e2m1fn).astype(np.float64)
    values = values[np.isfinite(values)]
    codec = codecs.make(f"scaled_{name}", x)
    y = x.astype(np.float64) * np.sqrt(D)
    nearest = np.abs(y[..., None] - values).min(axis=-1)
    got = np.abs(codec.decode(codec.encode(x)) * np.sqrt(D) - y)
    np.testing.assert_allclose(got, nearest, atol=1e-5)


def test_floats_saturate():
  x = np.array([[1e6, -1e6, 0, 1]], np.float32)
  for name, top in (("float8_e4m3", 448), ("float8_e5m2", 57344), ("float4_e2m1", 6)):
    codec = codecs.make(name, x)
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), [[top, -top, 0, 1]])


def test_unscaled_float4_loses_unit_vectors():
  x = vectors(d=384)
  codec = codecs.make("float4_e2m1", x)
  assert np.mean(codec.decode(codec.encode(x)) == 0) > 0.99


def test_int8_outside_its_range():
  calibration = np.array([[0.0, 5.0], [255.0, 5.0]])
  x = np.array([[300.0, 9.0], [-3.0, 5.0], [7.4, 5.0]])
  codec = codecs.int8(calibration)
  np.testing.assert_array_equal(codec.decode(codec.encode(x)), [[255, 9], [0, 5], [7, 5]])
  wrapped = codecs.int8(calibration, codes=True, wrap=True)
  np.testing.assert_array_equal(wrapped.decode(wrapped.encode(x)), [[44, 4], [253, 0], [7, 0]])


@pytest.mark.parametrize("top", [3e38, 1.0, 1e-40, 5e-44])
def test_int8_of_any_range(top):
  """Also of one, or of steps, that float32 does not have."""
  x = np.array([[-top], [0], [top / 3], [top]], np.float32)
  codec = codecs.int8(x)
  step = 2 * top / 255
  error = np.abs(codec.decode(codec.encode(x)).astype(float) - x)
  assert error.max() <= step / 2 + np.spacing(np.float32(top))
  assert error[[0, 3]].max() == 0
  assert codec.shared == 8


def test_int8_codes_are_steps():
  x = vectors()
  raw, codec = codecs.make("int8_codes", x), codecs.make("int8", x)
  steps = raw.decode(raw.encode(x))
  assert steps.min() == 0 and steps.max() == 255 and not steps[:, 3].std()
  np.testing.assert_array_equal(steps.astype(np.uint8), codec.encode(x))


def test_binary_keeps_signs():
  x = vectors()
  signs, bits = codecs.make("binary", x), codecs.make("binary01", x)
  np.testing.assert_array_equal(signs.decode(signs.encode(x)), np.where(x > 0, 1, -1))
  np.testing.assert_array_equal(bits.decode(bits.encode(x)), x > 0)
  # As many bits differ as Hamming's distance says.
  codes = signs.encode(x)
  hamming = np.unpackbits(codes[0] ^ codes[1]).sum()
  assert hamming == np.sum((x[0] > 0) != (x[1] > 0))


def test_product_quantisation_is_the_nearest_centroid():
  pytest.importorskip("faiss", reason="extra search")
  x = vectors()
  codec = codecs.make("pq6", x)
  codes = codec.encode(x)
  assert codes.shape == (N, 6) and codec.shared == 256 * D * 4
  every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 6, axis=1)
  books = codec.decode(every).reshape(256, 6, D // 6)
  parts = x.reshape(N, 6, D // 6)
  nearest = np.sum((parts[:, None] - books) ** 2, axis=-1).min(axis=1).sum(axis=1)
  np.testing.assert_allclose(np.sum((codec.decode(codes) - x) ** 2, axis=1), nearest, rtol=1e-3)


def test_rabitq_estimates_inner_products_as_well_as_faiss_searches():
  faiss = pytest.importorskip("faiss", reason="extra search")
  x = vectors(d=64)
  codec = codecs.make("rabitq", x)
  codes = codec.encode(x)
  assert codes.shape == (N, codec.nbytes) == (N, 8 + 8)
  index = faiss.IndexRaBitQ(64, faiss.METRIC_INNER_PRODUCT)
  index.qb = 0  # queries are not quantised
  rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0].astype(np.float32)
  index.train(x @ rotation)
  index.add(x @ rotation)
  score, ids = index.search(x[:20] @ rotation, N)
  ours = np.take_along_axis(x[:20] @ codec.decode(codes).T, ids, axis=1)
  true = np.take_along_axis(x[:20] @ x.T, ids, axis=1)
  assert np.corrcoef(ours.ravel(), score.ravel())[0, 1] > 0.99  # faiss rounds its factors otherwise
  assert np.abs(ours - true).mean() < 1.05 * np.abs(score - true).mean()


@pytest.mark.parametrize("name", ["pq4", "rabitq"])
def test_faiss_gets_no_vectors_whose_squares_overflow(name):
  pytest.importorskip("faiss", reason="extra search")
  x = vectors()
  x[1::2] = -x[::2]  # as far apart as their lengths allow
  most = 4.6e18 / np.linalg.norm(x, axis=1).max()
  small = codecs.make(name, x)
  want = small.decode(small.encode(x))
  codec = codecs.make(name, x * np.float32(most))
  got = codec.decode(codec.encode(x * np.float32(most)))
  assert np.isfinite(got).all()
  error = lambda back: np.mean((back.astype(float) - x) ** 2)
  np.testing.assert_allclose(error(got / np.float32(most)), error(want), rtol=0.1)  # other k-means
  for call in (codec.encode, lambda x: codecs.make(name, x)):
    with pytest.raises(ValueError, match="no longer than 4.6e.18, as float32 .* at 3$"):
      call(np.where(np.arange(len(x))[:, None] == 3, 2 * most, 1) * x)


@pytest.mark.parametrize(
  "name", [*PLAIN, "float4_e2m1", "int8_codes", "int8_wrapped", "binary01", "pq6", "rabitq"]
)
def test_codes_of_another_size_are_refused(name):
  if name in ("pq6", "rabitq"):
    pytest.importorskip("faiss", reason="extra search")
  x = vectors()
  codec = codecs.make(name, x)
  codes = codec.encode(x[:4])
  strided = codec.decode(np.asfortranarray(codes)[::2])
  np.testing.assert_allclose(strided, codec.decode(codes)[::2], atol=1e-6)
  for bad in (codes[:, :-1], np.repeat(codes, 2, axis=1), codes[0], codes.astype(np.float32)):
    with pytest.raises(ValueError, match=rf"codes must be \[n, {codec.nbytes}\] uint8, got"):
      codec.decode(bad)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda x: codecs.make("flaot8_e4m3", x), "did you mean float8_e4m3"),
    (lambda x: codecs.make("scaled_float32", x), "codec must be one of"),
    (lambda x: codecs.make("pq", x), "codec must be one of"),
    (lambda x: codecs.make("pq7", x), "must divide 24"),
    (lambda x: codecs.make("pq6", x[:10]), "needs 256 vectors"),
    (lambda x: codecs.make("int8", x[:0]), r"must be \[n, d\], got \[0, 24\]"),
    (lambda x: codecs.make("int8", x).encode(x[:, 1:]), r"must be \[n, 24\], got \[300, 23\]"),
    (lambda x: codecs.make("int8", np.where(x == x[5, 0], np.nan, x)), "first 5"),
  ],
)
def test_mistakes(call, message):
  with pytest.raises(ValueError, match=message):
    call(vectors())
