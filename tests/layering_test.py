"""Imports point one way; only launch.py has flags; the library does not print."""

import ast
import functools
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
GEOEMB = sorted((ROOT / "geoemb").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))

# What a part may import beside itself. Whatever sits on manifolds may read data; of the library
# only models, which train, use the harness.
LAYERS = {"typing": (), "numerics": ("typing",), "harness": ("typing",), "data": ("typing",)}
LAYERS |= dict.fromkeys(("manifolds", "boxes"), ("typing", "numerics"))
LAYERS["distributions"] = ("typing", "numerics", "manifolds")
LOW = ("optim", "tables", "losses", "graphs")
HIGH = ("models", "retrieval", "reduction", "analysis")
LAYERS |= dict.fromkeys(LOW, ("typing", "numerics", "manifolds", "boxes", "data", *LOW))
LAYERS |= dict.fromkeys(HIGH, (*LAYERS["losses"], *HIGH))
LAYERS["models"] += ("harness",)
FLAG_LIBRARIES = {"argparse", "optparse", "getopt", "click", "fire", "ml_collections"}


@functools.cache
def parse(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: pathlib.Path) -> set[tuple[str, ...]]:
  """The dotted names that a file imports, taken apart; `from a import b` is (a, b)."""
  found = set()
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      found |= {tuple(alias.name.split(".")) for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative imports hide the layer"
      found |= {(*node.module.split("."), alias.name) for alias in node.names}
  return found


def violations(paths, wrong) -> list[str]:
  return [
    f"{path.relative_to(ROOT)} imports {'.'.join(name)}"
    for path in paths
    for name in sorted(imports(path))
    if wrong(path, name)
  ]


def test_the_library_imports_only_downwards():
  def upwards(path, name):
    part = path.relative_to(ROOT / "geoemb").with_suffix("").parts[0]
    if name[0] in ("experiments", "tests", "launch"):
      return True
    if part == "__init__" or name[0] != "geoemb" or len(name) == 1:
      return False
    return name[1] != part and name[1] not in LAYERS[part]

  assert not violations(GEOEMB, upwards)


def test_experiments_do_not_import_each_other():
  mine = {path.stem for path in EXPERIMENTS}
  assert not violations(
    EXPERIMENTS, lambda _, name: name[0] in {"experiments", "tests", "launch", *mine}
  )


def test_only_the_launcher_has_flags():
  def flags(_, name):
    return name[:2] in (("absl", "flags"), ("absl", "app")) or name[0] in FLAG_LIBRARIES

  benchmarks = ROOT / "experiments" / "benchmarks"
  assert not violations([p for p in GEOEMB + EXPERIMENTS if benchmarks not in p.parents], flags)


def test_the_library_neither_prints_nor_configures_jax():
  calls = [
    f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}"
    for path in GEOEMB
    for node in ast.walk(parse(path))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "jax.config.update")
  ]
  assert not calls
