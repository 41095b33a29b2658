"""20 Newsgroups: what is stripped, and what is refused."""

import json
import lzma

import numpy as np
import pytest

from geoemb.data import newsgroups

POST = """From: a@b.c
Subject: Re: lines

In article <1@b.c> someone writes:
> quoted
What I say.
| quoted too

More that I say.
--
A. Signature
"""


def test_headers_quotations_and_signatures_go():
  assert newsgroups.body(POST) == "What I say.\n\nMore that I say."
  assert newsgroups.body("From: x\n\nOne line.") == "One line."
  assert newsgroups.body("no headers") == ""


def test_posts(data_root):
  posts = newsgroups.load("test", root=data_root)
  assert len(posts.texts) == len(posts.groups) == newsgroups.SIZES["test"]
  assert len(posts.names) == 20 and posts.names[0] == "alt.atheism"
  count = np.bincount(posts.groups)
  assert (count[0], count[-1]) == (319, 251)  # as scikit-learn's copy of the split has them


def test_other_files_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="20newsgroups/ in GEOEMB_DATA"):
    newsgroups.load(root=tmp_path)
  with pytest.raises(ValueError, match="train or test"):
    newsgroups.load("dev", root=tmp_path)
  (tmp_path / "20newsgroups").mkdir()
  path = tmp_path / "20newsgroups" / "20news-bydate.jsonl.xz"
  row = json.dumps(dict(split="train", group="a", id="1", text=POST))
  for text, message in (
    (row, "must have 11314 posts"),
    (row + "\n[]", "line 2 is no post"),
    (row + "\n{", "line 2 is no post"),
  ):
    path.write_bytes(lzma.compress(text.encode()))
    with pytest.raises(ValueError, match=message):
      newsgroups.load(root=tmp_path)
  path.write_bytes(lzma.compress(row.encode() * 99)[:-20])
  with pytest.raises(ValueError, match="is damaged"):
    newsgroups.load(root=tmp_path)


def test_the_twin_has_words_by_group():
  posts = newsgroups.twin(5, 3)
  assert len(posts.texts) == 15 and posts.names == ("group.0", "group.1", "group.2")
  assert {w for t in posts.texts[:5] for w in t.split()} <= {f"w{i}" for i in range(5)}
