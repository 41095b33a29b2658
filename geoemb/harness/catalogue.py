"""What experiments there are and what they declare, without running or even importing them.

An experiment is a file experiments/<family>/<name>.py with a docstring, Config, VARIANTS, TARGETS,
get_config and run. Importing one costs seconds of importing jax; --help, --list, --report and a
mistyped name should not, so only the declarations are executed.
"""

import ast
import dataclasses
import difflib
import functools
import importlib.util
import inspect
import json
import os
import re
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

from geoemb.harness import errors, targets

_LIGHT = ("geoemb", "geoemb.harness", "geoemb.harness.Target")  # these import no jax


def nearest(word: str, known: Iterable[str], n: int = 3) -> str:
  """A hint for an unknown word: "did you mean a or b?", or what there is if nothing is near."""
  known = list(dict.fromkeys(known))
  near = difflib.get_close_matches(word, known, n, cutoff=0.5)
  if near:
    return f"did you mean {' or '.join(near)}?"
  shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
  return f"there is {shown}" if known else "there is none"


@dataclasses.dataclass(frozen=True)
class Field:
  """A field of an experiment's Config."""

  name: str
  type: str
  default: Any
  comment: str


@dataclasses.dataclass(frozen=True)
class Experiment:
  """An experiment's declarations; `load` imports the rest."""

  path: str
  doc: str
  names: Mapping[str, Any] = dataclasses.field(repr=False)  # the executed declarations

  @property
  def name(self) -> str:
    """poincare_wordnet."""
    return os.path.splitext(os.path.basename(self.path))[0]

  @property
  def title(self) -> str:
    """The docstring's first line."""
    return self.doc.strip().splitlines()[0] if self.doc.strip() else self.name

  @property
  def variants(self) -> list[str]:
    """In the order they are declared."""
    return list(self.names["VARIANTS"])

  @property
  def default(self) -> str:
    """The variant that is meant when none is named."""
    default = inspect.signature(self.names["get_config"]).parameters["variant"].default
    return self.variants[0] if default is inspect.Parameter.empty else default

  @property
  def targets(self) -> tuple[targets.Target, ...]:
    """The papers' numbers."""
    return tuple(self.names.get("TARGETS", ()))

  @property
  def partial(self) -> Mapping[str, str]:
    """Variants that do less than the paper (data, steps), with what is less."""
    return self.names.get("PARTIAL", {})

  def config(self, variant: str) -> Any:
    """Today's config of a variant."""
    return self.names["get_config"](variant)

  def same(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[dict, dict]:
    """Two configs without what does not tell runs of a variant apart: the seed and INCIDENTAL.

    A field that is younger than a config stands at its default there, which has to keep what was.
    """
    skip = {"seed", *self.names.get("INCIDENTAL", ())}
    usual = {f.name: f.default for f in self.fields}
    return tuple({k: v for k, v in (usual | c).items() if k not in skip} for c in (a, b))

  @functools.cached_property
  def fields(self) -> tuple[Field, ...]:
    """Config's fields with the comments beside them."""
    with open(self.path, encoding="utf-8") as f:
      source = f.read()
    lines = source.splitlines()
    annotations = {}
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.ClassDef) and node.name == "Config":
        for item in node.body:
          if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found = re.search(r"#\s*(.*)$", lines[item.end_lineno - 1][item.end_col_offset :])
            annotations[item.target.id] = (ast.unparse(item.annotation), found[1] if found else "")
    missing = dataclasses.MISSING
    fields = []
    for f in dataclasses.fields(self.names["Config"]):
      default = f.default_factory() if f.default_factory is not missing else f.default
      fields.append(Field(f.name, *annotations.get(f.name, ("?", ""))[:1], default,
                          annotations.get(f.name, ("?", ""))[1]))  # fmt: skip
    return tuple(fields)

  def load(self) -> types.ModuleType:
    """Imports the experiment for running it."""
    return _import(self.path)


def plain(config: Any) -> dict[str, Any]:
  """A config as JSON would return it."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def _module_name(path: str, prefix: str) -> str:
  return f"{prefix}_" + re.sub(r"\W", "_", os.path.splitext(os.path.basename(path))[0])


def _import(path: str) -> types.ModuleType:
  name = _module_name(path, "experiment")
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  spec.loader.exec_module(module)
  return module


def _is_light(module: str) -> bool:
  return module in _LIGHT or module.partition(".")[0] in (*sys.stdlib_module_names, "numpy")


def _light(node: ast.stmt) -> ast.stmt | None:
  """A top-level statement as it is executed: imports without jax, nothing that is decorated."""
  if isinstance(node, ast.Import):
    names = [alias for alias in node.names if _is_light(alias.name)]
    return ast.copy_location(ast.Import(names), node) if names else None
  if isinstance(node, ast.ImportFrom):
    names = [alias for alias in node.names if _is_light(f"{node.module}.{alias.name}")]
    return ast.copy_location(ast.ImportFrom(node.module, names, 0), node) if names else None
  return None if isinstance(node, ast.FunctionDef) and node.decorator_list else node


def _declarations(path: str, tree: ast.Module) -> Mapping[str, Any]:
  """The names that the light statements define; the whole module's if they need more than that."""
  light = ast.Module([new for node in tree.body if (new := _light(node))], type_ignores=[])
  for node in ast.walk(light):
    if isinstance(node, ast.FunctionDef):  # signatures may name jax; fields of Config do not
      node.returns = None
      for arg in ast.walk(node.args):
        if isinstance(arg, ast.arg):
          arg.annotation = None
  module = types.ModuleType(_module_name(path, "declared"))
  module.__file__ = path
  sys.modules[module.__name__] = module  # dataclasses look their module up
  try:
    exec(compile(light, path, "exec", dont_inherit=True), vars(module))
    for variant in module.VARIANTS:
      module.get_config(variant)
  except Exception:  # they lean on something that was left out
    return vars(_import(path))
  return vars(module)


def is_experiment(tree: ast.Module) -> bool:
  """Whether a parsed file declares VARIANTS and get_config."""
  assigned = [n for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign)]
  names = {x.id for n in assigned for x in ast.walk(n) if isinstance(x, ast.Name)
           and isinstance(x.ctx, ast.Store)}  # fmt: skip
  return "VARIANTS" in names and any(
    isinstance(n, ast.FunctionDef) and n.name == "get_config" for n in tree.body
  )


def read(path: str) -> Experiment:
  """The experiment in a file.

  Raises:
    Abort: if the file is not one.
  """
  with open(path, encoding="utf-8") as f:
    tree = ast.parse(f.read(), path)
  if not is_experiment(tree):
    raise errors.Abort(f"{path} is not an experiment: no VARIANTS and get_config", errors.USAGE)
  return Experiment(path, ast.get_docstring(tree) or "", _declarations(path, tree))


def paths(root: str) -> list[str]:
  """Files below root/experiments that are experiments, sorted."""
  found = []
  folder = os.path.join(root, "experiments")
  for base, folders, files in os.walk(folder):
    folders[:] = sorted(f for f in folders if not f.startswith((".", "_")))
    for file in sorted(files):
      path = os.path.join(base, file)
      if file.endswith(".py") and not file.startswith("_"):
        with open(path, encoding="utf-8") as f:
          text = f.read()
        if "VARIANTS" in text and is_experiment(ast.parse(text, path)):
          found.append(path)
  return found


def find(address: str, root: str) -> tuple[Experiment, str]:
  """The experiment and the variant that FILE[:variant] names.

  FILE is looked for from here, then from `root`.

  Raises:
    Abort: if there is no such file or variant; names the nearest.
  """
  file, _, variant = address.partition(":")
  known = [os.path.relpath(p, root).replace(os.sep, "/") for p in paths(root)]
  path = next((p for p in (file, os.path.join(root, file)) if os.path.isfile(p)), None)
  if path is None:
    hint = nearest(file, known)
    stem = os.path.splitext(os.path.basename(file))[0]
    stems = {os.path.splitext(os.path.basename(k))[0]: k for k in known}
    if close := difflib.get_close_matches(stem, list(stems), 3, cutoff=0.5):
      hint = f"did you mean {' or '.join(stems[s] for s in close)}?"
    raise errors.Abort(f"no experiment {file}; {hint}", errors.USAGE)
  if not path.endswith(".py"):
    raise errors.Abort(f"{file} is not an experiment: {nearest(file, known)}", errors.USAGE)
  experiment = read(path)
  variant = variant or experiment.default
  if variant not in experiment.variants:
    raise errors.Abort(
      f"no variant {variant!r} in {file}; {nearest(variant, experiment.variants)}", errors.USAGE
    )
  return experiment, variant


def address(path: str, root: str) -> str:
  """How a path is recorded: from `root` if it lies below, else absolute; always with slashes."""
  path, root = os.path.realpath(path), os.path.realpath(root)
  inside = os.path.commonpath([path, root]) == root
  return (os.path.relpath(path, root) if inside else path).replace(os.sep, "/")
