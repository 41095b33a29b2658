"""LIMIT's full collection, rebuilt: 1,000 queries and 50,000 people who each like 45 things.

The data set's corpus [weller2025limit] is not always at hand; its queries and judgements, which are
in limit/limit/ of the data folder, and the list of items in limit/items.txt are enough to draw it
anew. A person whom judgements name likes what the queries that they answer ask for, filled up to
45 with items that no query asks for; all others like 45 of those items. Tables call it
LIMIT-rebuilt: as many documents hold a word as in the original, but other people do.
"""

import os
import re

import numpy as np

from geoemb.data import beir, paths, qrels

LIKES = 45
PEOPLE = 50_000


def rebuild(
  people: int = PEOPLE, *, seed: int = 0, root: str | os.PathLike | None = None
) -> beir.Collection:
  """The rebuilt collection, in an order of its own.

  Args:
    people: documents; the first of fewer are those that judgements name.
    seed: of the draw.
    root: folder of data sets.

  Raises:
    FileNotFoundError: a file of LIMIT is missing.
    ValueError: a file is not as described above, or there are fewer people than are judged.
  """
  folder = os.path.join(paths.root(root), "limit")
  queries = dict(zip(*beir.texts(_there(os.path.join(folder, "limit", "queries.jsonl")))))
  judged = qrels.read(_there(os.path.join(folder, "limit", "qrels.jsonl")))
  return _draw(queries, judged, _items(os.path.join(folder, "items.txt")), people, seed)


def with_distractors(
  collection: beir.Collection, extra: int, *, seed: int = 0, root: str | os.PathLike | None = None
) -> beir.Collection:
  """LIMIT-small with more people, who like 45 things that no query asks for, after its own.

  Args:
    collection: LIMIT-small.
    extra: how many more.
    seed: of the draw; more people begin with the same.
    root: folder of data sets.
  """
  asked = {wanted(query) for query in collection.queries}
  items = _items(os.path.join(paths.root(root), "limit", "items.txt"))
  rest = [item for item in items if item not in asked]
  rng = np.random.default_rng(seed)
  names = [f"Person {i}" for i in range(extra)]
  docs = [sentence(name, rng.choice(rest, LIKES, replace=False)) for name in names]
  return collection._replace(doc_ids=collection.doc_ids + names, docs=collection.docs + docs)


def wanted(query: str) -> str:
  """X of "Who likes X?"."""
  match = re.fullmatch(r"Who likes (.*)\?", query)
  if not match:
    raise ValueError(f'a query of LIMIT is "Who likes X?", got {query!r}')
  return match[1]


def sentence(name: str, items: np.ndarray) -> str:
  """A person's document."""
  return f"{name} likes {', '.join(items[:-1])} and {items[-1]}."


def _draw(queries, judged, items, people, seed):
  rng = np.random.default_rng(seed)
  asked = {wanted(text) for text in queries.values()}
  rest = np.array([item for item in items if item not in asked])
  likes = {}
  for query, row in judged.items():
    for person, grade in row.items():
      if grade > 0:
        likes.setdefault(person, []).append(wanted(queries[query]))
  if people < len(likes):
    raise ValueError(f"there are judgements of {len(likes)} people, got people = {people}")
  if max(map(len, likes.values())) > LIKES or len(rest) < LIKES:
    raise ValueError(f"LIMIT's people like {LIKES} things; the files at hand need more")
  names = [*likes, *(f"Person {i}" for i in range(people - len(likes)))]
  docs = []
  for name in names:
    mine = likes.get(name, [])
    mine = np.concatenate([mine, rng.choice(rest, LIKES - len(mine), replace=False)])
    docs.append(sentence(name, rng.permutation(mine)))
  order = rng.permutation(people)
  return beir.Collection(
    [names[i] for i in order],
    [docs[i] for i in order],
    list(queries),
    list(queries.values()),
    judged,
  )


def _items(path):
  with open(_there(path), encoding="utf-8") as file:
    return [line.strip() for line in file if line.strip()]


def _there(path: str) -> str:
  if not os.path.exists(path):
    raise paths.missing(path, "LIMIT's files", "limit")
  return path
