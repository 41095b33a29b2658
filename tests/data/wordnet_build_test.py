"""The builder of WordNet's tables, on a database of four synsets."""

import gzip

import pytest

from geoemb.data import wordnet_build

LICENCE = "  1 Do what is right,  \n  2   \n  3 and copy this.  \n"
DATA = (
  "00000010 03 n 01 entity 0 001 ~ 00000020 n 0000 | all there is\n"
  "00000020 03 n 02 Animal 0 beast 0 002 @ 00000010 n 0000 + 00000099 v 0101 | it lives | moves\n"
  "00000030 03 n 01 dog 0 001 @ 00000020 n 0000 | barks\n"
  "00000040 03 n 01 dog 1 002 @i 00000030 n 0000 @ 00000010 n 0000 | Dog, a dog\n"
)
INDEX = (
  "animal n 1 2 @ ~ 1 0 00000020  \n"
  "beast n 1 1 @ 1 0 00000020  \n"
  "dog n 2 1 @ 2 1 00000040 00000030  \n"
  "entity n 1 1 ~ 1 0 00000010  \n"
)


@pytest.fixture
def dict_dir(tmp_path, monkeypatch):
  monkeypatch.setattr(wordnet_build, "SYNSETS", {"noun": 4})
  (tmp_path / "data.noun").write_text(LICENCE + DATA)
  (tmp_path / "index.noun").write_text(LICENCE + INDEX)
  return str(tmp_path)


def test_table_holds_names_and_both_hypernyms(dict_dir, tmp_path):
  out = tmp_path / "out"
  assert wordnet_build.main(["wordnet_build", dict_dir, str(out)]) == 0
  assert gzip.decompress((out / "noun.tsv.gz").read_bytes()).decode() == (
    "entity.n.01\t\t\nanimal.n.01\t0\t\ndog.n.02\t1\t\ndog.n.01\t0\t2\n"
  )
  assert (out / "LICENSE").read_text() == "Do what is right,\n\nand copy this.\n"


def test_bytes_are_reproducible(dict_dir, tmp_path):
  for out in ("a", "b"):
    assert wordnet_build.main(["wordnet_build", dict_dir, str(tmp_path / out)]) == 0
  same = [(tmp_path / out / "noun.tsv.gz").read_bytes() for out in ("a", "b")]
  assert same[0] == same[1]
  assert same[0][3] == 0 and same[0][4:8] == bytes(4)  # no file name, no time


def test_another_release_is_refused(dict_dir, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(wordnet_build, "SYNSETS", {"noun": 82115})
  assert wordnet_build.main(["wordnet_build", dict_dir, str(tmp_path)]) == 2
  assert "must hold WordNet 3.0's 82115 synsets, got 4" in capsys.readouterr().err


def test_usage_and_missing_files(tmp_path, capsys):
  assert wordnet_build.main(["wordnet_build"]) == 2
  assert capsys.readouterr().err.startswith("usage: ")
  assert wordnet_build.main(["wordnet_build", str(tmp_path)]) == 2
  assert "index.noun" in capsys.readouterr().err
