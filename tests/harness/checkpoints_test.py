import os
import pathlib
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb.harness import checkpoints, errors


def tree(seed=0, dtype=jnp.float32):
  key = jax.random.key(seed)
  return {
    "table": jax.random.normal(key, (30, 3)).astype(dtype),
    "key": key,
    "count": jnp.int32(seed),
    "empty": jnp.zeros((0, 4)),
    "pair": (jnp.ones(2, jnp.bfloat16), jnp.zeros((), bool)),
  }


def assert_same(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    x, y = (jax.random.key_data(k) if k.dtype == jax.random.key(0).dtype else k for k in (x, y))
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture
def store(tmp_path):
  found = checkpoints.Checkpoints(str(tmp_path), keep=2)
  yield found
  found.close()


def files(tmp_path, step):
  folder = tmp_path / "checkpoints" / str(step)
  return sorted(p for p in folder.rglob("*") if p.is_file())


def test_returns_what_was_saved(store):
  assert store.restore(tree()) is None
  store.save(5, tree(1), {"clock": 2.5})
  restored = store.restore(tree(2))
  assert restored.step == 5
  assert restored.meta["clock"] == 2.5
  assert_same(restored.tree, tree(1))


def test_keeps_the_last(store):
  for step in (1, 4, 9):
    store.save(step, tree(step), {})
  assert store.steps() == [4, 9]


def test_no_damage_goes_unnoticed(tmp_path, caplog):
  """A flipped byte or a lost half of any file: the same values, or the checkpoint before."""
  store = checkpoints.Checkpoints(str(tmp_path / "good"))
  store.save(1, tree(1), {})
  store.save(2, tree(2), {})
  store.close()
  outcomes = []
  for path in files(tmp_path / "good", 2):
    for damage in ("flip", "truncate", "remove"):
      folder = tmp_path / f"{len(outcomes)}"
      shutil.copytree(tmp_path / "good", folder)
      victim = folder / path.relative_to(tmp_path / "good")
      data = bytearray(victim.read_bytes())
      if damage == "flip" and data:
        data[len(data) // 2] ^= 0x20
        victim.write_bytes(data)
      elif damage == "truncate":
        victim.write_bytes(data[: len(data) // 2])
      elif damage == "remove":
        victim.unlink()
      caplog.clear()
      store = checkpoints.Checkpoints(str(folder))
      restored = store.restore(tree(0))
      store.close()
      outcomes.append(restored.step)
      assert_same(restored.tree, tree(restored.step))
      warnings = [r for r in caplog.records if "damaged" in r.getMessage()]
      assert len(warnings) == (restored.step == 1)
      assert all("\n" not in r.getMessage() for r in warnings)
  assert set(outcomes) == {1}


def test_a_step_that_was_damaged_can_be_saved_again(store, tmp_path):
  store.save(1, tree(1), {})
  store.save(2, tree(2), {})
  for path in files(tmp_path, 2):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  assert store.restore(tree()).step == 1
  store.save(2, tree(3), {})
  assert_same(store.restore(tree()).tree, tree(3))


def test_refuses_to_start_over_when_all_are_damaged(store, tmp_path):
  store.save(1, tree(1), {})
  for path in files(tmp_path, 1):
    path.write_bytes(b"")
  for _ in range(2):
    with pytest.raises(errors.Abort, match="no checkpoint .* can be read .*delete that folder"):
      store.restore(tree())


def test_a_half_written_checkpoint_is_none(store, tmp_path):
  store.save(1, tree(1), {})
  store.close()
  left = tmp_path / "checkpoints" / "tmp"
  shutil.copytree(tmp_path / "checkpoints" / "1", left)
  assert store.restore(tree()).step == 1
  store.save(3, tree(3), {})
  assert store.steps() == [1, 3]
  assert not left.exists()


def test_another_state_is_refused(store):
  store.save(1, tree(1), {})
  with pytest.raises(
    errors.Abort, match=r"table is float32\[30, 3\] there and bfloat16.* here"
  ) as e:
    store.restore(tree(dtype=jnp.bfloat16))
  assert e.value.code == errors.USAGE


def test_a_failed_save_keeps_the_previous(store, monkeypatch):
  store.save(1, tree(1), {})

  def full(*_, **__):
    raise ValueError("NOT_OK: write failed [No space left on device]\nand a long story")

  monkeypatch.setattr(store._orbax, "save", full)
  with pytest.raises(errors.Abort, match=r"step 2 .*step 1 is kept.*: the disk is full$"):
    store.save(2, tree(2), {})
  assert store.restore(tree()).step == 1


@pytest.fixture
def small_disk(tmp_path):
  """A real file system of 1 MB."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
  if not hasattr(os, "geteuid") or os.geteuid() or shutil.which("mount") is None:
    pytest.skip("only root may mount")
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip("cannot mount a tmpfs here")
  yield folder
  subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: pathlib.Path):
  store = checkpoints.Checkpoints(str(small_disk))
  noise = lambda i: {"table": jax.random.bits(jax.random.key(i), (90_000,))}  # 360 kB
  store.save(1, noise(1), {})
  with pytest.raises(errors.Abort, match="the disk is full"):
    for step in range(2, 9):
      store.save(step, noise(step), {})
  kept = store.steps()
  store.close()
  assert kept == [1, 2][: len(kept)]
  again = checkpoints.Checkpoints(str(small_disk))
  assert_same(again.restore(noise(0)).tree, noise(kept[-1]))
  again.close()
