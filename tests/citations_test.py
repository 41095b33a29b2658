"""Every [nickel2017poincare] in the code stands in references.bib."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = [p for folder in ("geoemb", "experiments") for p in sorted((ROOT / folder).rglob("*.py"))]
CITED = re.compile(r"\[([a-z][a-z\-]*(?:19|20)\d\d[a-z0-9]*)\]")  # author, year, word
ENTRY = re.compile(r"^@\w+\{\s*([^,\s]+)\s*,", re.MULTILINE)


def keys() -> list[str]:
  return ENTRY.findall((ROOT / "geoemb" / "references.bib").read_text(encoding="utf-8"))


def test_what_is_cited_is_listed():
  known = set(keys())
  missing = {
    f"{path.relative_to(ROOT)}: {key}"
    for path in FILES
    for key in CITED.findall(path.read_text(encoding="utf-8"))
    if key not in known
  }
  assert not missing


def test_keys_are_unique_and_well_formed():
  found = keys()
  assert found
  assert len(found) == len(set(found))
  assert not [key for key in found if not CITED.fullmatch(f"[{key}]")]
