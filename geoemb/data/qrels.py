"""Relevance judgements (qrels) and ranked runs, in the forms of TREC and BEIR.

Qrels say how relevant documents are for queries, {query: {document: grade}}; a document is relevant
if its grade is above 0. A run has the scores of those that a system retrieved, {query: {document:
score}}. What a file holds is told by its first line:

  TREC qrels  query 0 document grade            columns separated by blanks
  BEIR qrels  query-id<tab>corpus-id<tab>score  with or without this header
  JSON lines  {"query-id": …, "corpus-id": …, "score": …}
  TREC run    query Q0 document rank score tag

UTF-8, plain or gzip, LF or CRLF. Blank lines are skipped; TREC has no blanks within ids.
"""

import gzip
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping

from geoemb.data import files

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]

_HEADER = ("query-id", "corpus-id", "score")


class QrelsError(ValueError):
  """What is wrong with a file, in one line that names the file and the line in it."""

  def __init__(self, path: str, line: int | None, what: str):
    self.path, self.line = path, line
    super().__init__(f"{path}{'' if line is None else f', line {line}'}: {what}")


def read(path: str | os.PathLike) -> Qrels:
  """The judgements in a file.

  Raises:
    FileNotFoundError: there is no such file.
    QrelsError: a line is not as described above, a document is judged twice for a query, or there
      is no judgement at all.
  """
  lines = _lines(path)
  first = next(lines, None)
  if first is None:
    raise QrelsError(os.fspath(path), None, "the file holds no judgements")
  parse = _form(first[1])
  if first[1].rstrip("\n") != "\t".join(_HEADER):
    lines = itertools.chain([first], lines)
  return _collect(path, lines, parse, _grade, "judgements")


def read_run(path: str | os.PathLike) -> Run:
  """The run in a TREC file; what its ranks and tag say is ignored, scores decide.

  Raises:
    FileNotFoundError: there is no such file.
    QrelsError: a line is not as described above, a document is ranked twice for a query, or there
      is nothing at all.
  """
  return _collect(path, _lines(path), _trec_run, _score, "ranked documents")


def write(path: str | os.PathLike, qrels: Mapping[str, Mapping[str, int]]) -> None:
  """Judgements as a TREC file, which replaces an older one at once and in full.

  Raises:
    ValueError: an id is empty or holds a blank, which the format has no room for.
  """
  rows = ((q, "0", d, str(int(g))) for q, docs in qrels.items() for d, g in docs.items())
  _write(path, rows)


def write_run(path: str | os.PathLike, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
  """A run as a TREC file, best documents first, which replaces an older one at once and in full.

  Raises:
    ValueError: an id or the tag is empty or holds a blank, which the format has no room for.
  """

  def rows():
    for query, scores in run.items():
      order = sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
      for rank, (document, score) in enumerate(order, 1):
        yield query, "Q0", document, str(rank), repr(float(score)), tag

  _write(path, rows())


def _write(path, rows):
  def lines():
    for row in rows:
      for word in row:
        if not word or re.search(r"\s", word):
          raise ValueError(
            f"a TREC file has no room for the id {word!r}: it is empty or has blanks"
          )
      yield (" ".join(row) + "\n").encode()

  files.replace(path, lambda file: file.writelines(lines()))


def _lines(path) -> Iterator[tuple[int, str]]:
  """Lines that are not blank, with their numbers."""
  path = os.fspath(path)
  with open(path, "rb") as file:
    packed = file.read(2) == b"\x1f\x8b"
  number = 0
  try:
    with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig") as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          yield number, line
  except UnicodeDecodeError as error:
    raise QrelsError(path, None, f"is not UTF-8 text: {error.reason}") from None
  except files.DAMAGED_GZIP as error:
    raise QrelsError(path, number + 1, f"the gzip file is damaged: {error}") from None


def _form(first: str) -> Callable[[str], tuple[str, str, object]]:
  if first.lstrip().startswith("{"):
    return _json
  return _beir if "\t" in first and len(first.split("\t")) == 3 else _trec


def _trec(line):
  query, _, document, grade = line.split()
  return query, document, grade


def _trec_run(line):
  query, _, document, _, score, _ = line.split()
  return query, document, score


def _beir(line):
  query, document, grade = line.rstrip("\n").split("\t")
  return query, document, grade


def _json(line):
  row = json.loads(line)
  return tuple(row[name] for name in _HEADER)


_SHAPES = {
  _trec: "query 0 document grade",
  _trec_run: "query Q0 document rank score tag",
  _beir: "query, document and grade, separated by tabs",
  _json: '{"query-id": …, "corpus-id": …, "score": …}',
}


def _grade(value) -> int:
  grade = float(value)
  if grade != int(grade):
    raise ValueError
  return int(grade)


def _score(value) -> float:
  score = float(value)
  if math.isnan(score):
    raise ValueError
  return score


def _collect(path, lines, parse, number, what):
  path, found = os.fspath(path), {}
  for at, line in lines:
    try:
      query, document, value = parse(line)
    except (ValueError, KeyError, TypeError):
      raise QrelsError(path, at, f"expected {_SHAPES[parse]}, got {line.strip()!r:.80}") from None
    query, document = str(query), str(document)
    try:
      value = number(value)
    except (ValueError, OverflowError, TypeError):
      kind = "whole grade" if number is _grade else "score"
      raise QrelsError(path, at, f"expected a {kind}, got {value!r}") from None
    row = found.setdefault(query, {})
    if document in row:
      raise QrelsError(path, at, f"document {document!r} stands twice for query {query!r}")
    row[document] = value
  if not found:
    raise QrelsError(path, None, f"the file holds no {what}")
  return found
