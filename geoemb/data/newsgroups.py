"""20 Newsgroups, split by date: 11,314 posts to train on and 7,532 to test, of 20 groups.

The file is not shipped: put 20news-bydate.jsonl.xz into 20newsgroups/ of the data folder, see
`paths.root`: a line {"split": …, "group": …, "id": …, "text": …} for each post.
"""

import json
import lzma
import os
import re
from typing import NamedTuple

import numpy as np

from geoemb.data import paths

SIZES = {"train": 11314, "test": 7532}
_FILE = os.path.join("20newsgroups", "20news-bydate.jsonl.xz")
_QUOTE = re.compile(r"(writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>)")


class Posts(NamedTuple):
  """Posts of one split."""

  texts: list[str]
  groups: np.ndarray  # [n] int32, indices into names
  names: tuple[str, ...]  # of the groups, sorted


def load(
  split: str = "train", *, bare: bool = True, root: str | os.PathLike | None = None
) -> Posts:
  """The posts of a split.

  Args:
    split: "train" or "test".
    bare: without headers, quotations and signatures, which give groups away: see `body`. Some
      texts are empty then.
    root: folder of data sets.

  Raises:
    ValueError: no such split, or a file that is not what its name says.
    FileNotFoundError: the file is missing.
  """
  if split not in SIZES:
    raise ValueError(f"split must be train or test, got {split!r}")
  path = os.path.join(paths.root(root), _FILE)
  if not os.path.exists(path):
    raise paths.missing(path, "it", "20newsgroups")
  texts, groups, names = [], [], set()
  try:
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
      for number, line in enumerate(file, 1):
        try:
          row = json.loads(line)
          names.add(row["group"])
          if row["split"] == split:
            texts.append(body(row["text"]) if bare else row["text"])
            groups.append(row["group"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
          raise ValueError(f"{path}, line {number} is no post: {error!r:.80}") from None
  except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
    raise ValueError(f"{path} is damaged: {error}") from None
  if len(texts) != SIZES[split] or len(names) != 20:
    raise ValueError(
      f"{path} must have {SIZES[split]} posts of {split} and 20 groups, "
      f"got {len(texts)} and {len(names)}"
    )
  names = tuple(sorted(names))
  return Posts(texts, np.searchsorted(names, groups).astype(np.int32), names)


def body(text: str) -> str:
  """A post without headers, signature and quotations, by the rules that scikit-learn made usual.

  Headers end at the first empty line; a signature is what follows the last line of nothing but
  hyphens or blanks; a line that begins with > or |, or announces a quotation, is quoted.
  """
  text = text.partition("\n\n")[2]
  lines = text.strip().split("\n")
  breaks = [i for i, line in enumerate(lines) if line.strip().strip("-") == ""]
  if breaks and breaks[-1] > 0:
    text = "\n".join(lines[: breaks[-1]])
  return "\n".join(line for line in text.split("\n") if not _QUOTE.search(line))


def twin(per_group: int = 10, groups: int = 4, *, seed: int = 0) -> Posts:
  """Generated posts of a few words, each group with words of its own; for tests."""
  rng = np.random.default_rng(seed)
  names = tuple(f"group.{g}" for g in range(groups))
  label = np.repeat(np.arange(groups, dtype=np.int32), per_group)
  word = lambda g: f"w{rng.integers(3 * g, 3 * g + 5)}"  # neighbouring groups share some
  return Posts([" ".join(word(g) for _ in range(6)) for g in label], label, names)
