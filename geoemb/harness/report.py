"""Tables of recorded results: for the READMEs, for --list, and for the end of a run."""

import dataclasses
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geoemb.harness import catalogue, errors, results, targets, workdirs

BEGIN = "<!-- report: from here on written by `python launch.py --report` -->"
END = "<!-- report: end -->"
_COLUMNS = 8  # at most, of a table of variants against metrics
_WORST = (
  "off", "missed", "partial", "stale", "not run", "no value", "recorded", "met", "reproduced"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
  """A target and what the records say of it."""

  target: targets.Target
  values: Sequence[float]  # one a seed
  status: str
  runs: Sequence[Mapping[str, Any]]  # with a value; one may have none, such as of what it sought
  of: int  # runs in all


def rows(experiment: catalogue.Experiment) -> list[Row]:
  """A row for every target, in their order."""
  runs = results.records(experiment)
  found = []
  for target in experiment.targets:
    fresh, stale = results.split_stale(experiment, target.variant, runs)
    known = fresh or stale
    used = [r for r in known if target.metric in r["metrics"]]
    values = [r["metrics"][target.metric] for r in used]
    status = target.status(values)
    if used and not fresh:
      status = "stale"
    elif reasons := sorted({r["partial"] for r in used if r.get("partial")}):
      status = f"partial: {'; '.join(reasons)}"
    elif known and not used:
      status = "no value"
    found.append(Row(target, values, status, used, len(known)))
  return found


def variant_status(experiment: catalogue.Experiment, variant: str, found: Sequence[Row]) -> str:
  """The worst status of a variant's targets; "–" for a variant that chases no number."""
  states = {row.status.split(":")[0] for row in found if row.target.variant == variant}
  return next((s for s in _WORST if s in states), "–")


def listing(experiments: Iterable[catalogue.Experiment], root: str) -> str:
  """What --list prints: every experiment, and a line for each of its variants."""
  lines = []
  for e in experiments:
    found = rows(e)
    lines.append(f"{catalogue.address(e.path, root)}  {e.title}")
    width = max(map(len, e.variants))
    for v in e.variants:
      about = ", ".join(f"{k}={x!r}" for k, x in _differences(e, v).items())
      if len(about) > 70:
        about = about[:69] + "…"
      lines.append(f"  :{v:<{width}}  {variant_status(e, v, found):<10}  {about}".rstrip())
  return "\n".join(lines)


def _differences(experiment: catalogue.Experiment, variant: str) -> dict[str, Any]:
  """The fields in which a variant departs from Config's defaults."""
  config = experiment.config(variant)
  return {f.name: getattr(config, f.name) for f in experiment.fields
          if getattr(config, f.name) != f.default}  # fmt: skip


def _number(x: float, like: float | None = None) -> str:
  """As many decimals as the paper gives and one more, at least 3; else 4 significant digits.

  No decimals from 1,000 on, and two significant digits where those decimals would round the number
  away.
  """
  if like is None:
    whole = float(x).is_integer() or abs(x) >= 1e3
    return f"{x:,.0f}" if whole and abs(x) < 1e12 else f"{x:.4g}"
  decimals = len(repr(float(like)).partition(".")[2]) if float(like) != int(like) else 0
  text = f"{x:.{max(decimals + 1, 3 if abs(like) < 10 else 2)}f}"
  return f"{x:.2g}" if x and float(text) == 0 else text


def _signed(x: float, like: float) -> str:
  return ("+" if x >= 0 else "−") + _number(abs(x), like)


def _mean(row: Row) -> str:
  text = _number(statistics.fmean(row.values), row.target.paper)
  if len(row.values) > 1:
    text += f" ± {_number(statistics.stdev(row.values), row.target.paper)}"
  return text


def _ours(row: Row) -> str:
  if not row.values:
    return "–"
  what = "run" if row.target.goal else "seed"  # a benchmark's run has repeats and seeds inside
  return f"{_mean(row)} ({_count(row)} {what}{'s' if row.of > 1 else ''})"


def _count(row: Row) -> str:
  n = len(row.values)
  return str(n) if n == row.of else f"{n} of {row.of}"


def _duration(seconds: float) -> str:
  if seconds < 120:
    return f"{seconds:.3g} s"
  return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _where(runs: Sequence[Mapping[str, Any]]) -> str:
  """Device and median training time."""
  if not runs:
    return "–"
  kinds = []
  for r in runs:
    device = r["device"]
    cores = f"{r['cpus']} core{'s' * (r['cpus'] != 1)}"
    name = device["kind"] if device["platform"] != "cpu" else f"{device['kind']}, {cores}"
    kinds.append(f"{device['count']} × {name}" if device["count"] > 1 else name)
  times = [r["training_seconds"] for r in runs if r.get("training_seconds") is not None]
  where = "; ".join(dict.fromkeys(kinds))
  return f"{_duration(statistics.median(times))}, {where}" if times else where


def _figure(found: Iterable[targets.Target]) -> str:
  """What the column of figures is headed."""
  kinds = {t.goal for t in found if t.paper is not None}
  return "goal" if kinds == {True} else "paper or goal" if len(kinds) == 2 else "paper"


def _markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
  escape = lambda row: "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
  return [escape(header), "|" + "---|" * len(header), *map(escape, body)]


def _family(experiments: Sequence[catalogue.Experiment], root: str) -> str:
  """Every table of a family's experiments."""
  lines = []
  for e in experiments:
    lines += [f"## {e.name}", "", e.title, ""]
    file = os.path.basename(e.path)
    lines += [f"Code and config: [{file}]({file}). Variants: {', '.join(e.variants)}.", ""]
    found = rows(e)
    for table in dict.fromkeys(row.target.table for row in found):
      mine = [row for row in found if row.target.table == table]
      lines += [f"### {table}", "", *_table(mine)]
  return "\n".join(lines)


def _table(mine: Sequence[Row]) -> list[str]:
  """Rows with the figures they are held against line by line; the others side by side."""
  held = [row for row in mine if row.target.paper is not None or row.target.note]
  shown = [_place(row) for row in mine if row not in held]
  names, columns = (list(dict.fromkeys(axis)) for axis in zip(*shown)) if shown else ([], [])
  if not 2 <= min(len(names), len(columns)) <= _COLUMNS:
    return [*_long(mine), ""]
  wide = [*_wide({_place(row): row for row in mine}, names, columns), ""]
  return [*_long(held), "", *wide] if held else wide


def _place(row: Row) -> tuple[str, str]:
  return row.target.place or (row.target.variant, row.target.metric)


def _long(mine: Sequence[Row]) -> list[str]:
  """A line for every row."""
  notes = any(row.target.note for row in mine)
  header = ["row", "metric", _figure(row.target for row in mine), "ours", "gap", "status"]
  body = []
  for row in mine:
    t = row.target
    gap = "–"
    if row.values and t.paper is not None:
      gap = _signed(statistics.fmean(row.values) - t.paper, t.paper)
    paper = "–" if t.paper is None else f"{t.paper:g}"
    cells = [t.variant, t.metric, paper, _ours(row), gap, row.status, _where(row.runs)]
    body.append(cells + ([t.note] if notes else []))
  return _markdown([*header, "training time, device", *(["note"] if notes else [])], body)


def _wide(
  found: Mapping[tuple[str, str], Row], names: Sequence[str], columns: Sequence[str]
) -> list[str]:
  """Rows by their places, with what is common to those of a name; turned if that is narrower."""

  def cell(name: str, column: str) -> str:
    row = found.get((name, column))
    if row is None:
      return ""
    if not row.values:
      return "–"
    return _mean(row) + (f" ({_count(row)})" if len(row.values) < row.of else "")

  def about(name: str) -> list[str]:
    own = [row for place, row in found.items() if place[0] == name]
    runs = [r for row in own for r in row.runs]
    status = "; ".join(dict.fromkeys(row.status for row in own if row.target.paper is None))
    return [status, str(len({r["seed"] for r in runs})), _where(runs)]

  last = ["status", "seeds", "training time, device"]
  if len(columns) <= len(names):
    body = [[name, *(cell(name, c) for c in columns), *about(name)] for name in names]
    return _markdown(["row", *columns, *last], body)
  body = [[c, *(cell(name, c) for name in names)] for c in columns]
  body += [[what, *cells] for what, cells in zip(last, zip(*map(about, names)))]
  return _markdown(["metric", *names], body)


def _index(families: Mapping[str, Sequence[catalogue.Experiment]]) -> str:
  """The index over all families."""
  body = []
  for family, experiments in families.items():
    for e in experiments:
      found = rows(e)
      states = [row.status.split(":")[0] for row in found]
      counted = [f"{states.count(s)} {s}" for s in reversed(_WORST) if s in states]
      link = f"[{e.name}]({family}/{os.path.basename(e.path)})"
      variants = ", ".join(e.variants)
      body.append([link, e.title, variants, ", ".join(counted) or "–"])
  header = ["experiment", "what it shows", "variants", "status (rows of the tables)"]
  return "\n".join(_markdown(header, body)) + "\n"


def _merge(path: str, title: str, generated: str) -> str:
  """The README with its generated part replaced; what stands around it is kept."""
  old = f"# {title}\n\n{BEGIN}\n{END}\n"
  if os.path.exists(path):
    with open(path, encoding="utf-8") as f:
      old = f.read()
  if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
    raise errors.Abort(f"{path} must have the lines {BEGIN} and {END} once each, in this order")
  return f"{old[: old.index(BEGIN)]}{BEGIN}\n\n{generated}\n{old[old.index(END) :]}"


def pages(root: str) -> dict[str, str]:
  """Every generated README's path and text."""
  families: dict[str, list[catalogue.Experiment]] = {}
  for path in catalogue.paths(root):
    family = os.path.relpath(os.path.dirname(path), os.path.join(root, "experiments"))
    families.setdefault(family.replace(os.sep, "/"), []).append(catalogue.read(path))
  found = {}
  for family, experiments in families.items():
    path = os.path.join(root, "experiments", family, "README.md")
    found[path] = _merge(path, family.capitalize(), _family(experiments, root))
  path = os.path.join(root, "experiments", "README.md")
  found[path] = _merge(path, "Experiments", _index(families))
  return found


def write(root: str) -> list[str]:
  """Rewrites the READMEs that differ; returns their paths."""
  with workdirs.alone(os.path.join(root, "experiments")):
    return [path for path, text in pages(root).items() if _rewrite(path, text)]


def _rewrite(path: str, text: str) -> bool:
  """Whether the file had to be written to have this text."""
  if os.path.exists(path):
    with open(path, encoding="utf-8") as f:
      if f.read() == text:
        return False
  try:
    with open(path, "w", encoding="utf-8") as f:
      f.write(text)
  except OSError as e:
    raise errors.Abort(errors.os_error(e, f"cannot write {path}")) from e
  return True


def summary(experiment: catalogue.Experiment, variant: str, result: Mapping[str, Any]) -> str:
  """The table at the end of a run: every metric, beside the paper's figure or our goal."""
  today = catalogue.plain(experiment.config(variant))
  changed = [k for k, v in experiment.same(result["config"], today)[0].items() if today.get(k) != v]
  by_metric = {t.metric: t for t in experiment.targets if t.variant == variant}
  body = []
  for name, value in result["metrics"].items():
    t = by_metric.get(name)
    if t is None or t.paper is None:
      body.append((name, _number(value), "–", "–"))
    else:
      status = t.status([value])
      status = "–" if changed else experiment.partial.get(variant) or status
      body.append((name, _number(value, t.paper), f"{t.paper:g} ({t.table})", status))
  header = ("metric", "ours", _figure(by_metric.values()), "status")
  widths = [max(len(row[i]) for row in (header, *body)) for i in range(4)]
  lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths)).rstrip() for row in (header, *body)]
  if changed:
    lines.append(f"(not compared: {', '.join(changed)} differ from {variant!r})")
  return "\n".join(lines)
