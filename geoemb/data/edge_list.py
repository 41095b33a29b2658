"""A user's own hierarchy, from a text file of edges: `child parent [weight]`, one on each line.

The format, in full:

  - UTF-8 text, with or without a byte order mark, lines ending in LF or CRLF; plain or gzip (seen
    by its first bytes, whatever the file is called).
  - Columns are separated as on the first line that holds any: by tabs if it has a tab, else by
    commas if it has a comma, else by runs of blanks. Names in tab-separated files may hold blanks,
    commas and quotes (a quote is a character like others there). Comma-separated fields may be
    quoted, "Paris, Texas", with "" for a quote; a quoted field ends on its line.
  - Blanks around a field are dropped. All lines have as many columns as the first: 2, or 3 with a
    weight, a finite number that is not negative.
  - Blank lines and lines that start with # are skipped.
  - The first line is a header if its fields are names of the columns, in any case: one word of
    CHILD, one of PARENT and, if there are three, one of WEIGHT, in any order, which is then the
    order of the columns. Any other first line is data, so a header with other words is taken for an
    edge, or, with three columns, refused for its weight.
  - Nodes are known by their names as they are written, and numbered as they appear in the file.
  - A self loop is dropped, a repeated edge kept once (with its largest weight), both with a warning
    that counts them; nodes of self loops alone are dropped too.
  - A cycle is logged as a warning, and refused where the closure is asked for.

Ten million edges take about half a minute on one core, most of it in looking up names, and 1.0 GB
with a million nodes, 1.8 GB with ten million (measured). A file with quotes or comments throughout
is read line by line, in about twice the time.
"""

import csv
import gzip
import itertools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from absl import logging

from geoemb.data import files, hierarchy

CHILD = frozenset(
  "child child_id id1 source source_id src from hyponym descendant narrower sub subclass subject "
  "head node node1 term id name".split()
)
PARENT = frozenset(
  "parent parent_id id2 target target_id dst to hypernym ancestor broader super superclass object "
  "tail node2".split()
)
WEIGHT = frozenset("weight weights w score value count freq frequency".split())
_BLOCK = 1 << 23  # bytes
_MAX_WEIGHT = float(np.finfo(np.float32).max)


class EdgeListError(ValueError):
  """What is wrong with a file of edges, in one line that names the file and the line in it."""

  def __init__(self, path: str, line: int | None, what: str):
    self.path, self.line = path, line
    super().__init__(f"{path}{'' if line is None else f', line {line}'}: {what}")


class _Format(NamedTuple):
  """How to read a line."""

  first: int  # the line that says so
  delimiter: str | None  # None: runs of blanks
  columns: int
  child: int = 0
  parent: int = 1
  weight: int = 2


class _Rows(NamedTuple):
  """Edges as they are in the file; a name is known by where it was first used."""

  pairs: np.ndarray  # [m, 2] int64: 2 i + j, if that was field j, child or parent, of edge i
  lines: np.ndarray  # [m] int32, from 1
  weights: np.ndarray  # [m] float32, or [0]


def read(
  path: str | os.PathLike, *, closure: bool = False, max_edges: int = hierarchy.MAX_CLOSURE_EDGES
) -> hierarchy.Hierarchy:
  """The hierarchy in a file of edges, in the format above.

  Args:
    path: the file.
    closure: close the edges transitively; a closure has no weights.
    max_edges: refuse a larger closure.

  Raises:
    EdgeListError: the file is not as described, or has a cycle or too large a closure where
      `closure` is asked for.
  """
  path = os.fspath(path)
  form, first_use, blocks, m = None, {}, [], 0
  for first, text in _texts(path):
    if form is None:
      form, first, text = _sniff(path, first, text)
    if form is not None:
      args = first, text, form, first_use, m
      blocks.append(_plain_rows(*args) or _rows(path, *args))
      m += len(blocks[-1].pairs)
  if not m:
    raise EdgeListError(path, None, "the file holds no edges")
  names = tuple(first_use)
  first_use.clear()
  pairs, lines, weights = (np.concatenate(parts) for parts in zip(*blocks))
  del blocks
  used_first = pairs.ravel() == np.arange(2 * m)
  pairs = (np.cumsum(used_first, dtype=np.int32) - 1)[pairs]
  graph, lines = _tidy(path, names, _Rows(pairs, lines, weights))
  _check_cycle(path, graph, lines, refuse=closure)
  if not closure:
    return graph
  try:
    closed = hierarchy.close(graph.edges, len(graph.names), max_edges=max_edges)
  except ValueError as error:
    raise EdgeListError(path, None, str(error)) from None
  return graph._replace(edges=closed, weights=None)


def _texts(path) -> Iterator[tuple[int, str]]:
  """Blocks of whole lines: (number of the first, text, every line ending in LF)."""
  line = 1
  for raw in _blocks(path):
    if line == 1:
      if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise EdgeListError(path, 1, "the text must be UTF-8, this looks like UTF-16")
      raw = raw.removeprefix(b"\xef\xbb\xbf")
    raw = raw.replace(b"\r\n", b"\n")
    codes = np.frombuffer(raw, np.uint8)
    controls = np.flatnonzero((codes < 32) & (codes != ord("\n")) & (codes != ord("\t")))
    if len(controls):
      at = int(controls[0])
      what = {0: "a NUL (a binary file, or UTF-16?)", 13: "a carriage return inside the line"}
      what = what.get(raw[at], f"control character 0x{raw[at]:02x}")
      raise EdgeListError(path, line + raw.count(b"\n", 0, at), f"not text: {what}")
    try:
      yield line, raw.decode("utf-8")
    except UnicodeDecodeError as error:
      at = error.start
      column = at - raw.rfind(b"\n", 0, at)
      what = f"the text must be UTF-8, byte 0x{raw[at]:02x} at column {column} is not"
      raise EdgeListError(path, line + raw.count(b"\n", 0, at), what) from None
    line += raw.count(b"\n")


def _blocks(path) -> Iterator[bytes]:
  """The bytes of the file, decompressed, in pieces of whole lines."""
  line, rest = 1, b""
  try:
    with open(path, "rb") as file:
      zipped = file.peek(2)[:2] == b"\x1f\x8b"
      stream = gzip.GzipFile(fileobj=file) if zipped else file
      while piece := _fill(stream):
        end = piece.rfind(b"\n") + 1
        if not end and len(rest) > _BLOCK:
          raise EdgeListError(path, line, f"the line is longer than {_BLOCK} bytes")
        if end:
          yield rest + piece[:end]
          line += piece.count(b"\n")
          rest = b""
        rest += piece[end:]
    if rest:
      yield rest + b"\n"
  except files.DAMAGED_GZIP as error:
    raise EdgeListError(path, line, f"the gzip data end or break here: {error}") from None
  except OSError as error:
    raise EdgeListError(path, None, f"cannot be read: {error.strerror or error}") from None


def _fill(stream) -> bytes:
  """The next block, or what there is of it before an error, which the next call then raises."""
  pieces, size = [], 0
  try:
    while size < _BLOCK and (piece := stream.read1(_BLOCK - size)):
      pieces.append(piece)
      size += len(piece)
  except files.DAMAGED_GZIP:
    if not pieces:
      raise
  return b"".join(pieces)


def _sniff(path, first, text):
  """Format by the first line that has columns, or None; (first line, text) from the data on."""
  start, number = 0, first
  while start < len(text):
    end = text.index("\n", start)
    line = text[start:end]
    if not _is_skipped(line):
      break
    start, number = end + 1, number + 1
  else:
    return None, number, text
  delimiter = "\t" if "\t" in line else "," if "," in line else None
  form = _Format(number, delimiter, 0)
  ((_, fields),) = _split(path, number, [line], form)
  if len(fields) not in (2, 3):
    raise EdgeListError(
      path,
      number,
      "expected 2 or 3 columns, child parent [weight], with tabs, commas or blanks between them, "
      f"got {len(fields)}: {_excerpt(line)}",
    )
  form = form._replace(columns=len(fields))
  words = [field.lower() for field in fields]
  of = {key: [i for i, w in enumerate(words) if w in known] for key, known in _HEADER.items()}
  if [len(of[key]) for key in _HEADER] == [1, 1, len(fields) - 2]:
    logging.info("%s, line %d: read as a header", path, number)
    form = form._replace(**{key: columns[0] for key, columns in of.items() if columns})
    start, number = end + 1, number + 1
  return form, number, text[start:]


def _plain_rows(first, text, form, first_use, m):
  """`_rows` of a block without blank lines, comments, stray blanks, quotes or errors, else None.

  Ten times as fast, for the lines are checked by the bytes between their fields, all at once.
  """
  delimiter = form.delimiter or " "
  codes = np.frombuffer(f"\n{text}".encode(), np.uint8)
  newline = codes == ord("\n")
  ends = np.flatnonzero(newline | (codes == ord(delimiter)))
  blank = (codes == ord(" ")) | (codes == ord("\t"))
  expected = np.array([False] * (form.columns - 1) + [True])
  if (
    not text
    or (len(ends) - 1) % form.columns
    or np.any(newline[ends[1:]].reshape(-1, form.columns) != expected)
    or np.any(np.diff(ends) == 1)
    or np.any(blank[ends[1:] - 1] | blank[ends[:-1] + 1])
    or np.any(codes[np.flatnonzero(newline)[:-1] + 1] == ord("#"))
    or (delimiter == "," and '"' in text)
    or (delimiter == " " and "\t" in text)
  ):
    return None
  fields = text[:-1].replace("\n", delimiter).split(delimiter)
  weights = np.zeros(0, np.float32)
  if form.columns == 3:
    try:
      weights = np.fromiter(map(float, fields[form.weight :: 3]), np.float64)
    except ValueError:
      return None
    if not np.all((weights >= 0) & (weights <= _MAX_WEIGHT)):
      return None
    weights = weights.astype(np.float32)
  k = len(fields) // form.columns
  names = fields
  if form.columns != 2 or form.child != 0:
    names = [""] * (2 * k)
    names[0::2] = fields[form.child :: form.columns]
    names[1::2] = fields[form.parent :: form.columns]
  # Nothing in this loop is Python's: a dict of dense ids would need a call for each new name.
  uses = map(first_use.setdefault, names, itertools.count(2 * m))
  pairs = np.fromiter(uses, np.int64, 2 * k).reshape(k, 2)
  return _Rows(pairs, np.arange(first, first + k, dtype=np.int32), weights)


def _rows(path, first, text, form, first_use, m):
  """The edges of a block of lines; an error names the first line that has one."""
  pairs, numbers, weights = [], [], []
  for number, fields in _split(path, first, text[:-1].split("\n"), form):
    if len(fields) != form.columns:
      raise EdgeListError(
        path,
        number,
        f"expected {form.columns} columns, as on line {form.first}, got {len(fields)}: "
        f"{_excerpt(fields)}",
      )
    for key, column in (("child", form.child), ("parent", form.parent)):
      if not fields[column]:
        raise EdgeListError(path, number, f"the name of the {key} is empty: {_excerpt(fields)}")
      if "\t" in fields[column]:
        raise EdgeListError(path, number, f"a name holds a tab: {_excerpt(fields[column])}")
    if form.columns == 3:
      weights.append(_weight(path, number, fields[form.weight], form))
    use = 2 * (m + len(pairs))
    child = first_use.setdefault(fields[form.child], use)
    pairs.append((child, first_use.setdefault(fields[form.parent], use + 1)))
    numbers.append(number)
  return _Rows(
    np.array(pairs, np.int64).reshape(-1, 2),
    np.array(numbers, np.int32),
    np.array(weights, np.float32),
  )


def _split(path, first, lines, form) -> Iterator[tuple[int, list[str]]]:
  """Fields of every line that is not skipped, with its number."""
  if form.delimiter != ",":
    for number, line in enumerate(lines, first):
      if not _is_skipped(line):
        line = line.strip(" ") if form.delimiter else line.strip(" \t")
        fields = line.split(form.delimiter) if form.delimiter else re.split("[ \t]+", line)
        yield number, [field.strip(" ") for field in fields]
    return
  reader = csv.reader(
    ("" if _is_skipped(line) else line for line in lines), strict=True, skipinitialspace=True
  )
  before = 0
  try:
    for fields in reader:
      if reader.line_num != before + 1:
        raise csv.Error("a quoted field must end on its line")
      before += 1
      if fields:
        yield first + before - 1, [field.strip(" \t") for field in fields]
  except csv.Error as error:
    raise EdgeListError(path, first + before, f"bad quotes: {error}") from None


def _weight(path, number, field, form):
  try:
    weight = float(field)
  except ValueError:
    weight = -1.0
  if 0 <= weight <= _MAX_WEIGHT:
    return weight
  hint = ""
  if form.delimiter is None:
    hint += "; names that hold blanks need tabs or commas between the columns"
  if number == form.first:
    hint += "; a header must use known words, such as child, parent, weight"
  raise EdgeListError(
    path,
    number,
    f"the weight must be a finite number and not negative, got {_excerpt(field)}{hint}",
  )


def _tidy(path, names, rows):
  """(The hierarchy without self loops and repeated edges, the first line of each edge)."""
  pairs, lines, weights = rows
  loops = pairs[:, 0] == pairs[:, 1]
  if loops.any():
    logging.warning(
      "%s: self loops dropped: %d, the first on line %d", path, loops.sum(), lines[loops][0]
    )
    pairs, lines = pairs[~loops], lines[~loops]
    weights = weights[~loops] if len(weights) else weights
    if not len(pairs):
      raise EdgeListError(path, None, "the file holds no edges but self loops")
    keep = np.zeros(len(names), bool)
    keep[pairs] = True
    if not keep.all():
      pairs = (np.cumsum(keep, dtype=np.int32) - 1)[pairs]
      names = tuple(names[i] for i in np.flatnonzero(keep))
  n = len(names)
  keys = pairs[:, 0].astype(np.int64) * n + pairs[:, 1]
  order = np.argsort(keys, kind="stable")
  keys = keys[order]
  first = np.r_[True, keys[1:] != keys[:-1]]
  if not first.all():
    logging.warning(
      "%s: repeated edges dropped: %d, the first on line %d",
      path,
      len(first) - first.sum(),
      lines[order[~first]].min(),
    )
  if len(weights):
    weights = np.maximum.reduceat(weights[order], np.flatnonzero(first))
  kept = order[first]
  graph = hierarchy.Hierarchy(pairs[kept], names, weights if len(weights) else None)
  return graph, lines[kept]


def _check_cycle(path, graph, lines, *, refuse):
  """Logs or refuses a cycle, by the last of its lines."""
  n = len(graph.names)
  cycle = hierarchy.find_cycle(graph.edges, n)
  if cycle is None:
    return
  keys = graph.edges[:, 0].astype(np.int64) * n + graph.edges[:, 1]
  line = lines[np.searchsorted(keys, np.array(cycle) * n + np.roll(cycle, -1))].max()
  what = f"this line closes the cycle {hierarchy.show_cycle(cycle, graph.names)}"
  if refuse:
    raise EdgeListError(path, int(line), f"{what}; a hierarchy with a cycle cannot be closed")
  logging.warning("%s, line %d: %s", path, line, what)


def _is_skipped(line):
  return line.startswith("#") or not line.strip(" \t")


def _excerpt(value):
  """A value from the file as one short line."""
  shown = repr(value)
  return shown if len(shown) <= 80 else f"{shown[:77]}..."


_HEADER = {"child": CHILD, "parent": PARENT, "weight": WEIGHT}
