"""LIMIT rebuilt: who is relevant likes what is asked for, and nobody else does."""

import collections

import pytest

from geoemb.data import beir, limit


def likes(doc):
  """The items of a document."""
  head, last = doc.removesuffix(".").partition(" likes ")[2].rsplit(" and ", 1)
  return [*head.split(", "), last]


def test_rebuilt(data_root):
  got = limit.rebuild(300, root=data_root)
  assert len(got.docs) == len(set(got.doc_ids)) == 300 and len(got.queries) == 1000
  by_item = collections.defaultdict(set)
  for name, doc in zip(got.doc_ids, got.docs):
    assert len(set(likes(doc))) == 45
    for item in likes(doc):
      by_item[item].add(name)
  for query, text in zip(got.query_ids, got.queries):
    assert by_item[limit.wanted(text)] == set(got.qrels[query])
  assert limit.rebuild(300, root=data_root) == got
  assert limit.rebuild(300, seed=1, root=data_root).docs != got.docs
  with pytest.raises(ValueError, match="judgements of 46 people, got people = 45"):
    limit.rebuild(45, root=data_root)


def test_distractors(data_root):
  small = beir.load("limit-small", root=data_root)
  more = limit.with_distractors(small, 20, root=data_root)
  assert more.docs[:46] == small.docs and len(set(more.doc_ids)) == 66
  asked = {limit.wanted(query) for query in small.queries}
  assert asked.isdisjoint(set().union(*map(likes, more.docs[46:])))
  assert limit.with_distractors(small, 10, root=data_root).docs == more.docs[:56]


def test_missing_files_and_odd_queries(tmp_path):
  with pytest.raises(FileNotFoundError, match="put LIMIT's files there"):
    limit.rebuild(root=tmp_path)
  with pytest.raises(ValueError, match='is "Who likes X\\?"'):
    limit.wanted("What is love?")
