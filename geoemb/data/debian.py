"""Packages of Debian 12: one line of description each, with section, size and tags; shipped.

The 30,170 packages of bookworm/main for amd64 that have debtags, in the order of their names, made
by `debian_build`. The names, sections, sizes, tags and one-line descriptions are Debian's own; see
debian/SOURCE.
"""

import gzip
import importlib.resources
from typing import NamedTuple

import numpy as np

SIZE = 30170


class Packages(NamedTuple):
  """n packages with their attributes."""

  names: tuple[str, ...]
  descriptions: tuple[str, ...]  # one line each, without the name
  section: np.ndarray  # [n] int32, indices into sections
  size: np.ndarray  # [n] int32, installed size, KiB
  tags: np.ndarray  # [n, w] uint64: bit j of the words is tag_names[j]
  sections: tuple[str, ...]  # sorted
  tag_names: tuple[str, ...]  # sorted

  @property
  def texts(self) -> list[str]:
    """What is embedded: "name: description"."""
    return [f"{name}: {text}" for name, text in zip(self.names, self.descriptions)]


def load() -> Packages:
  """All 30,170 packages, of 57 sections and with 598 different tags."""
  source = importlib.resources.files("geoemb.data").joinpath("debian", "bookworm.tsv.gz")
  found = parse(gzip.decompress(source.read_bytes()).decode("utf-8"))
  assert len(found.names) == SIZE, len(found.names)
  return found


def parse(text: str) -> Packages:
  """Packages from lines of name, section, size, tags between spaces, and description, in tabs."""
  rows = [line.split("\t") for line in text.splitlines()]
  names, section, size, tags, descriptions = zip(*rows)
  tags = [row.split() for row in tags]
  sections, tag_names = sorted(set(section)), sorted({tag for row in tags for tag in row})
  place = {tag: j for j, tag in enumerate(tag_names)}
  words = np.zeros((len(names), -(-len(tag_names) // 64)), np.uint64)
  for i, row in enumerate(tags):
    for tag in row:
      words[i, place[tag] // 64] |= np.uint64(1 << place[tag] % 64)
  return Packages(
    names,
    descriptions,
    np.searchsorted(sections, section).astype(np.int32),
    np.array(size, np.int32),
    words,
    tuple(sections),
    tuple(tag_names),
  )


def twin(n: int = 200, *, seed: int = 0) -> Packages:
  """Generated packages of four sections, whose descriptions tell the section; for tests."""
  rng = np.random.default_rng(seed)
  lines = []
  for i in range(n):
    g = rng.integers(4)
    words = " ".join(f"w{rng.integers(3 * g, 3 * g + 5)}" for _ in range(4))
    tags = " ".join(f"tag::{t}" for t in range(70) if rng.random() < 0.05)
    lines.append(f"p{i:05d}\tsection{g}\t{rng.integers(1, 1000)}\t{tags}\t{words}")
  return parse("\n".join(lines))
