"""Questions that tests ask of a compiled program's text."""

import re
from collections.abc import Iterable

_COMPUTATION = re.compile(
  r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$"
)  # "%body.3 (arg: f32[2]) -> f32[2] {"
_WHILE = re.compile(r"\bwhile\(.*\bbody=%?([\w.\-]+)")
_CALLS = re.compile(
  r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_COPY = re.compile(r"= *\(?\w+\[([\d,]*)\][^=]*? (copy|copy-start)\(")


def _computations(text: str) -> dict[str, list[str]]:
  """Lines of each computation of an HLO module, by name."""
  found, lines = {}, []
  for line in text.splitlines():
    if match := _COMPUTATION.match(line.strip()):
      lines = found.setdefault(match[1], [])
    else:
      lines.append(line)
  return found


def _callees(line: str) -> Iterable[str]:
  yield from _CALLS.findall(line)
  for names in _BRANCHES.findall(line):
    yield from (name.strip().lstrip("%") for name in names.split(","))


def loop_copies(text: str, size: int) -> list[str]:
  """Copies of arrays of at least `size` elements inside loop bodies of compiled HLO.

  Empty is what a loop wants that updates a large table in place: a copy there costs the whole
  table at every turn, silently.

  Args:
    text: `compiled.as_text()`, after optimisation.
    size: elements from which on an array counts as large.
  """
  computations = _computations(text)
  todo = [m[1] for lines in computations.values() for line in lines if (m := _WHILE.search(line))]
  seen, copies = set(), []
  while todo:
    name = todo.pop()
    if name in seen:
      continue
    seen.add(name)
    for line in computations.get(name, []):
      todo.extend(_callees(line))
      if match := _COPY.search(line):
        shape = [int(n) for n in match[1].split(",") if n]
        elements = 1
        for n in shape:
          elements *= n
        if elements >= size:
          copies.append(f"{name}: {line.strip()}")
  return copies
