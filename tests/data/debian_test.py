"""Debian's packages: the table that is shipped, and how it is built."""

import numpy as np
import pytest

from geoemb.data import debian, debian_build

INDEX = """Package: zed
Section: editors
Installed-Size: 12
Tag: role::program, interface::{commandline,text-mode},
 use::editing
Description: an  editor: of text
 More of it.
Description-md5: 0
Filename: pool/main/z/zed/zed_1_amd64.deb

Package: abc
Section: math
Installed-Size: 3
Tag: role::program
Description: a calculator
Filename: pool/main/a/abc/abc_1_amd64.deb

Package: untagged
Section: math
Installed-Size: 3
Description: one
Filename: pool/main/u/untagged.deb

Package: foreign
Section: math
Installed-Size: 3
Tag: role::program
Description: of another archive
Filename: dists/cloud/f.deb
"""


def test_the_index_becomes_a_table(tmp_path):
  (tmp_path / "Packages").write_text(INDEX)
  packages = debian_build.read(str(tmp_path / "Packages"))
  assert packages == [
    debian_build.Package("abc", "math", 3, ("role::program",), "a calculator"),
    debian_build.Package(
      "zed",
      "editors",
      12,
      ("interface::commandline", "interface::text-mode", "role::program", "use::editing"),
      "an editor: of text",
    ),
  ]
  for name in ("a", "b"):
    out = str(tmp_path / name)
    assert debian_build.main(["", str(tmp_path / "Packages"), out]) == 0
  assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_no_index_is_refused(tmp_path, capsys):
  assert debian_build.main([""]) == 2
  assert debian_build.main(["", str(tmp_path / "none")]) == 2
  for text, message in (("", "no packages with tags"), ("Package: a\nnonsense\n", "line 2")):
    (tmp_path / "Packages").write_text(text)
    assert debian_build.main(["", str(tmp_path / "Packages"), str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


def test_the_shipped_table():
  found = debian.load()
  n = len(found.names)
  assert n == 30170 and len(found.sections) == 57 and len(found.tag_names) == 598
  assert list(found.names) == sorted(set(found.names)) and len(set(found.texts)) == n
  i = found.names.index("bash")
  assert found.descriptions[i] == "GNU Bourne Again SHell"
  assert found.sections[found.section[i]] == "shells" and found.size[i] > 1000
  j = found.tag_names.index("interface::shell")
  assert found.tags[i, j // 64] >> np.uint64(j % 64) & np.uint64(1)
  assert found.size.min() > 0


def test_the_twin():
  found = debian.twin()
  assert len(found.texts) == 200 and found.tags.shape == (200, 2)
  with pytest.raises(ValueError, match="not enough values"):
    debian.parse("a\tb")
