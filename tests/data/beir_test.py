"""Collections in BEIR's layout: what is there, and what is refused."""

import json

import pytest

from geoemb.data import beir


def write(folder, docs, queries, judged):
  folder.mkdir(exist_ok=True)
  lines = lambda rows: "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "corpus.jsonl").write_text(lines(docs))
  (folder / "queries.jsonl").write_text(lines(queries))
  (folder / "qrels").mkdir(exist_ok=True)
  (folder / "qrels" / "test.tsv").write_text(judged)


DOCS = [{"_id": "a", "title": "On trees", "text": "They grow."}, {"_id": "b", "text": ""}]
QUERIES = [{"_id": "1", "text": "trees?"}]


def test_own_folder(tmp_path):
  write(tmp_path / "own", DOCS, QUERIES, "1\ta\t1\n")
  got = beir.load(str(tmp_path / "own"))
  assert got == (["a", "b"], ["On trees They grow.", ""], ["1"], ["trees?"], {"1": {"a": 1}})


@pytest.mark.parametrize(
  ("docs", "queries", "judged", "message"),
  [
    (DOCS + [{"_id": "b", "text": ""}], QUERIES, "1\ta\t1\n", "line 3: the id 'b' stands twice"),
    (DOCS, QUERIES, "2\ta\t1\n", "judges the query '2', which queries.jsonl lacks"),
    (DOCS, QUERIES, "1\tz\t1\n", "judges the document 'z', which corpus.jsonl lacks"),
    ([{"id": "a"}], QUERIES, "1\ta\t1\n", 'line 1: expected {"_id": …, "text": …}'),
    ([], QUERIES, "1\ta\t1\n", "holds no texts"),
  ],
)
def test_bad_collections_are_refused(tmp_path, docs, queries, judged, message):
  write(tmp_path / "own", docs, queries, judged)
  with pytest.raises(ValueError) as error:
    beir.load(str(tmp_path / "own"))
  assert message in str(error.value) and "\n" not in str(error.value)


def test_missing_files_say_where_they_belong(tmp_path):
  with pytest.raises(
    FileNotFoundError, match="corpus.jsonl not found: put scifact in BEIR.s layout there"
  ):
    beir.load("scifact", root=tmp_path)


def test_scifact_and_limit(data_root):
  scifact = beir.load("scifact", root=data_root)
  assert (len(scifact.docs), len(scifact.queries)) == (5183, 1109)
  assert (len(scifact.qrels), sum(map(len, scifact.qrels.values()))) == (300, 339)
  assert len(beir.load("scifact", "train", root=data_root).qrels) == 809
  limit = beir.load("limit-small", root=data_root)
  assert (len(limit.docs), len(limit.queries), len(limit.qrels)) == (46, 1000, 1000)
  assert set(map(len, limit.qrels.values())) == {2}
