"""Builds the files that `wordnet.load` reads from WordNet's own database files.

Run: python -m geoemb.data.wordnet_build DICT_DIR [OUT_DIR]

DICT_DIR holds index.noun, data.noun, index.verb and data.verb of WordNet 3.0: usr/share/wordnet of
Debian's package wordnet-base (1:3.0-37), which lacks one of the two edges with which the release
of 2006 has a cycle of two verbs. WordNet 3.1 has other offsets and more synsets, and is refused.
OUT_DIR defaults to the package's own folder, wordnet/ beside this file. The same input gives the
same bytes (with the same zlib).

Written are noun.tsv.gz, verb.tsv.gz, and LICENSE, the licence as it heads data.noun. Line i of a
table (from 0) is synset i, in the order of the data file (that of the offsets, so the root
entity.n.01 is noun 0): its name, its hypernyms (pointer `@`), its instance hypernyms (`@i`), split
by tabs; hypernyms are line numbers in the order of the data file, split by spaces.

A name is lemma.pos.NN, as nltk writes it: the first word of the synset in lower case, and the
synset's 1-based place in that word's line of the index file. The format: wndb(5WN) of WordNet 3.0.
"""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from geoemb.data import files

SYNSETS = {"noun": 82115, "verb": 13767}  # of WordNet 3.0
HYPERNYM, INSTANCE_HYPERNYM = "@", "@i"


class Synset(NamedTuple):
  """One line of a table: a synset's name and its direct hypernyms, as line numbers."""

  name: str
  hypernyms: tuple[int, ...]
  instance_hypernyms: tuple[int, ...]


def senses(path: str) -> dict[str, list[int]]:
  """Synset offsets of every lemma of an index file, most frequent sense first."""
  offsets = {}
  for line in _records(path):
    fields = line.split()
    offsets[fields[0]] = [int(o) for o in fields[-int(fields[2]) :]]
  return offsets


def synsets(dict_dir: str, pos: str) -> list[Synset]:
  """All synsets of `pos` ("noun" or "verb"), in the order of the data file."""
  sense_offsets = senses(os.path.join(dict_dir, f"index.{pos}"))
  parsed = []
  for line in _records(os.path.join(dict_dir, f"data.{pos}")):
    # offset lex_filenum ss_type w_cnt(hex) (word lex_id)* p_cnt (symbol offset pos source/target)*
    fields = line.split(" | ", 1)[0].split()
    offset, letter, n_words = int(fields[0]), fields[2], int(fields[3], 16)
    lemma = fields[4].lower()
    sense = sense_offsets[lemma].index(offset) + 1
    start = 5 + 2 * n_words
    pointers = [fields[start + 4 * i :][:3] for i in range(int(fields[start - 1]))]
    parents = {
      kind: [int(o) for symbol, o, p in pointers if symbol == kind and p == letter]
      for kind in (HYPERNYM, INSTANCE_HYPERNYM)
    }
    parsed.append((offset, f"{lemma}.{letter}.{sense:02d}", parents))
  if len(parsed) != SYNSETS[pos]:
    raise ValueError(
      f"{dict_dir}: data.{pos} must hold WordNet 3.0's {SYNSETS[pos]} synsets, got {len(parsed)}"
    )
  line_of = {offset: i for i, (offset, _, _) in enumerate(parsed)}
  return [
    Synset(name, *(tuple(line_of[o] for o in offsets) for offsets in parents.values()))
    for _, name, parents in parsed
  ]


def licence(dict_dir: str) -> str:
  """The licence that heads data.noun, without its line numbers."""
  with open(os.path.join(dict_dir, "data.noun"), encoding="ascii") as file:
    lines = []
    for line in file:
      if not line.startswith("  "):
        break
      lines.append(line.strip().partition(" ")[2].rstrip())
  return "\n".join(lines) + "\n"


def write(path: str, table: Sequence[Synset]) -> None:
  """Writes the table; equal ones are equal files."""
  lines = (
    f"{s.name}\t{' '.join(map(str, s.hypernyms))}\t{' '.join(map(str, s.instance_hypernyms))}\n"
    for s in table
  )
  files.write_gzip(path, "".join(lines).encode("ascii"))


def _records(path):
  """Lines of a database file below the licence, whose lines start with two spaces."""
  with open(path, encoding="ascii") as file:
    for line in file:
      if not line.startswith("  "):
        yield line


def main(argv: Sequence[str]) -> int:
  """The command line: exit code 0, or 2 with the usage or one line on what is wrong."""
  if len(argv) not in (2, 3):
    sys.stderr.write("usage: python -m geoemb.data.wordnet_build DICT_DIR [OUT_DIR]\n")
    return 2
  dict_dir = argv[1]
  out_dir = argv[2] if len(argv) == 3 else os.path.join(os.path.dirname(__file__), "wordnet")
  try:
    tables = {pos: synsets(dict_dir, pos) for pos in SYNSETS}
    os.makedirs(out_dir, exist_ok=True)
    for pos, table in tables.items():
      write(os.path.join(out_dir, f"{pos}.tsv.gz"), table)
    with open(os.path.join(out_dir, "LICENSE"), "w", encoding="ascii") as file:
      file.write(licence(dict_dir))
  except (OSError, ValueError) as error:
    sys.stderr.write(f"{error}\n")
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
