"""Builds the file that `debian.load` reads, from Debian's own index of packages.

Run: python -m geoemb.data.debian_build PACKAGES [OUT]

PACKAGES is what `apt-cache dumpavail` prints on Debian 12 with the component main alone, or
dists/bookworm/main/binary-amd64/Packages of a mirror, unpacked. OUT defaults to the package's own
debian/bookworm.tsv.gz. The same input gives the same bytes (with the same zlib).

A package is kept if its file lies in the archive's pool/main, and it has tags, a section, and an
installed size. Of its tags "a::{b,c}" stands for a::b and a::c; the description is its first line.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from geoemb.data import files


class Package(NamedTuple):
  """One line of the table."""

  name: str
  section: str
  size: int  # installed, KiB
  tags: tuple[str, ...]  # sorted
  description: str  # one line


def read(path: str) -> list[Package]:
  """The packages of an index that are kept, by name."""
  found = {}
  for fields in _stanzas(path):
    wanted = ("Package", "Section", "Installed-Size", "Tag", "Description", "Filename")
    if all(name in fields for name in wanted) and fields["Filename"].startswith("pool/main/"):
      name, section, size, tags, text, _ = (fields[key] for key in wanted)
      text = " ".join(text.split("\n")[0].split())
      found[name] = Package(name, section, int(size), _tags(tags), text)
  return [found[name] for name in sorted(found)]


def write(path: str, packages: Sequence[Package]) -> None:
  """Writes the table; equal ones are equal files."""
  lines = (
    f"{p.name}\t{p.section}\t{p.size}\t{' '.join(p.tags)}\t{p.description}\n" for p in packages
  )
  files.write_gzip(path, "".join(lines).encode("utf-8"))


def _stanzas(path: str) -> Iterator[dict[str, str]]:
  """Fields of each stanza of a control file; lines of a field that goes on are kept apart."""
  with open(path, encoding="utf-8", newline="\n") as file:
    fields, key = {}, None
    for number, line in enumerate(file, 1):
      line = line.rstrip("\n")
      if not line.strip():
        if fields:
          yield fields
        fields, key = {}, None
      elif line[0] in " \t" and key:
        fields[key] += "\n" + line.strip()
      elif ":" in line and line[0] not in " \t":
        key, value = line.split(":", 1)
        fields[key] = value.strip()
      else:
        raise ValueError(f"{path}, line {number}: expected a field of a package, got {line[:60]!r}")
    if fields:
      yield fields


def _tags(field: str) -> tuple[str, ...]:
  """Tags of a field: from "a::{b,c}, d::e" a::b, a::c and d::e."""
  found = set()
  for tag in re.findall(r"[^\s,{]+(?:\{[^}]*\})?", field):
    stem, brace, inner = tag.partition("{")
    found |= {stem + part.strip() for part in inner.rstrip("}").split(",")} if brace else {tag}
  return tuple(sorted(found))


def main(argv: Sequence[str]) -> int:
  """The command line: exit code 0, or 2 with the usage or one line on what is wrong."""
  if len(argv) not in (2, 3):
    sys.stderr.write("usage: python -m geoemb.data.debian_build PACKAGES [OUT]\n")
    return 2
  here = os.path.join(os.path.dirname(__file__), "debian", "bookworm.tsv.gz")
  try:
    packages = read(argv[1])
    if not packages:
      raise ValueError(f"{argv[1]} has no packages with tags")
    write(argv[2] if len(argv) == 3 else here, packages)
  except (OSError, ValueError) as error:
    sys.stderr.write(f"{error}\n")
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
