"""Text collections for retrieval in the folder layout of BEIR: documents, queries, judgements.

    corpus.jsonl    {"_id": …, "title": …, "text": …}
    queries.jsonl   {"_id": …, "text": …}
    qrels/SPLIT.tsv, or qrels.jsonl for a collection without splits; see `qrels`

`load` knows by name those that it looks for in the data folder: SciFact [wadden2020scifact], 5,183
abstracts with 300 test and 809 training claims, and LIMIT-small [weller2025limit], 46 people and
1,000 queries. None is shipped.
"""

import json
import os
from typing import NamedTuple

from geoemb.data import paths, qrels

FOLDERS = {"scifact": "scifact", "limit-small": os.path.join("limit", "limit-small")}


class Collection(NamedTuple):
  """Texts with their ids in file order, and who is relevant for what."""

  doc_ids: list[str]
  docs: list[str]  # title and text, with a blank between them
  query_ids: list[str]  # of all splits
  queries: list[str]
  qrels: qrels.Qrels  # of one split


def load(name: str, split: str = "test", *, root: str | os.PathLike | None = None) -> Collection:
  """A collection by its name, or from the folder of that path.

  Args:
    name: a key of FOLDERS, or a folder.
    split: whose judgements; a collection with a single qrels file has them all in "test".
    root: folder of data sets.

  Raises:
    FileNotFoundError: the folder or a file of it is missing.
    ValueError: a file is not as described above, an id occurs twice, or a judgement names an
      unknown one.
  """
  folder = os.path.join(paths.root(root), FOLDERS[name]) if name in FOLDERS else os.fspath(name)
  corpus, queries = (os.path.join(folder, f"{part}.jsonl") for part in ("corpus", "queries"))
  judged = os.path.join(folder, "qrels", f"{split}.tsv")
  single = os.path.join(folder, "qrels.jsonl")
  if split == "test" and not os.path.exists(judged) and os.path.exists(single):
    judged = single
  for path in (corpus, queries, judged):
    if not os.path.exists(path):
      if name in FOLDERS:
        raise paths.missing(path, f"{name} in BEIR's layout", FOLDERS[name])
      raise FileNotFoundError(f"{path} not found: {name} must have BEIR's layout")
  doc_ids, docs = texts(corpus)
  query_ids, queries = texts(queries)
  found = qrels.read(judged)
  known_queries, known_docs = set(query_ids), set(doc_ids)
  for query, row in found.items():
    if query not in known_queries:
      raise ValueError(f"{judged} judges the query {query!r}, which queries.jsonl lacks")
    for doc in row.keys() - known_docs:
      raise ValueError(f"{judged} judges the document {doc!r}, which corpus.jsonl lacks")
  return Collection(doc_ids, docs, query_ids, queries, found)


def texts(path: str) -> tuple[list[str], list[str]]:
  """Ids and texts of a file of JSON lines, in its order.

  Raises:
    ValueError: a line is not as described above, an id occurs twice, or there is no text.
  """
  found = {}
  with open(path, "rb") as file:
    for number, line in enumerate(file, 1):
      try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        key, text = row["_id"], " ".join(filter(None, (row.get("title"), row["text"])))
      except (ValueError, KeyError, TypeError) as error:
        expected = '{"_id": …, "text": …}'
        raise ValueError(f"{path}, line {number}: expected {expected}, got {error!r:.80}") from None
      if str(key) in found:
        raise ValueError(f"{path}, line {number}: the id {key!r} stands twice")
      found[str(key)] = text
  if not found:
    raise ValueError(f"{path} holds no texts")
  return list(found), list(found.values())
