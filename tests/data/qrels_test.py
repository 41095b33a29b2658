"""Judgements and runs survive their files, and malformed ones are refused with a line number."""

import gzip
import json

import pytest

from geoemb.data import qrels

JUDGED = {"q1": {"d1": 2, "d2": 0}, "q2": {"d 3": -1}}
BEIR = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td 3\t-1\n"
JSON = "\n".join(
  json.dumps({"query-id": q, "corpus-id": d, "score": g})
  for q, row in JUDGED.items()
  for d, g in row.items()
)


@pytest.mark.parametrize("text", [BEIR, BEIR.partition("\n")[2], JSON, BEIR.replace("\n", "\r\n")])
@pytest.mark.parametrize("packed", [False, True])
def test_forms_agree(tmp_path, text, packed):
  path = tmp_path / "qrels"
  path.write_bytes(gzip.compress(text.encode()) if packed else text.encode("utf-8-sig"))
  assert qrels.read(path) == JUDGED


def test_trec_files_are_read_as_written(tmp_path):
  judged = {"q1": {"d1": 2, "d2": 0}}
  qrels.write(tmp_path / "qrels", judged)
  assert qrels.read(tmp_path / "qrels") == judged
  run = {"q1": {"d2": 0.1, "d1": 1 / 3, "d3": 0.1}, "q2": {"d1": -1e-30}}
  qrels.write_run(tmp_path / "run", run, "mine")
  assert qrels.read_run(tmp_path / "run") == run
  assert (tmp_path / "run").read_text().splitlines()[1] == "q1 Q0 d3 2 0.1 mine"


def test_nothing_is_overwritten_by_what_the_format_cannot_hold(tmp_path):
  qrels.write(tmp_path / "qrels", {"q": {"d": 1}})
  with pytest.raises(ValueError, match="'a b'"):
    qrels.write(tmp_path / "qrels", {"q": {"d": 2, "a b": 1}})
  assert qrels.read(tmp_path / "qrels") == {"q": {"d": 1}}
  assert [p.name for p in tmp_path.iterdir()] == ["qrels"]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "holds no judgements"),
    ("query-id\tcorpus-id\tscore\n", "holds no judgements"),
    ("q 0 d 1\n\nq 0 d 1\n", "line 3: document 'd' stands twice for query 'q'"),
    ("q 0 d 1\nq 0 e\n", "line 2: expected query 0 document grade, got 'q 0 e'"),
    ("q 0 d 1.5\n", "line 1: expected a whole grade, got '1.5'"),
    ("q\td\tnan\n", "line 1: expected a whole grade, got 'nan'"),
    ('{"query-id": "q"}\n', "line 1: expected {"),
  ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
  path = tmp_path / "qrels"
  path.write_text(text)
  with pytest.raises(qrels.QrelsError) as error:
    qrels.read(path)
  assert message in str(error.value) and str(path) in str(error.value)
  assert "\n" not in str(error.value)


def test_runs_refuse_nan_and_damaged_files(tmp_path):
  (tmp_path / "run").write_text("q Q0 d 1 nan tag\n")
  with pytest.raises(qrels.QrelsError, match="line 1: expected a score, got 'nan'"):
    qrels.read_run(tmp_path / "run")
  whole = gzip.compress(b"".join(b"q Q0 d%d 1 0.5 tag\n" % i for i in range(1000)))
  (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(qrels.QrelsError, match="damaged"):
    qrels.read_run(tmp_path / "cut")
