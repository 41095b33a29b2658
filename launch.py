"""Runs experiments: the one entry point, and the only file that defines flags.

    python launch.py                                         the mammals of WordNet, in a minute
    python launch.py --config=FILE[:variant]                 an experiment
    python launch.py --config=FILE[:variant] --config.lr=0.1 with a field changed

Rerunning a command resumes a run that was stopped, and shows the result of one that finished.
Exit codes: 0 finished; 1 the run failed; 2 the command line or the workdir makes no sense;
128 + n stopped by signal n, with everything saved.

On a CPU, experiments with small steps have XLA use one thread, which makes them about twice as
fast; NPROC or PJRT_NPROC in the environment sets another number.
"""

import dataclasses
import hashlib
import linecache
import os
import re
import signal
import sys
import textwrap
import time
import traceback
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from geoemb.harness import catalogue, cpu, errors, report, results, workdirs

ROOT = os.path.dirname(os.path.abspath(__file__))
DEFAULT = "experiments/hierarchies/poincare_wordnet.py:mammals"
SWITCHES = {
  "list": "list all experiments and variants, with the status of their recorded results",
  "record": "merge this run's result.json into results/, where --report reads it",
  "report": "rebuild the tables of experiments/ from the records",
  "help": "this text, with the fields of the experiment that --config names",
}
VALUES = {
  "config": f"experiment file and variant (default {DEFAULT})",
  "workdir": "folder of the run (default runs/NAME-VARIANT, with the changed fields added)",
}


_INTERRUPTED = "interrupted; the same command resumes from the last checkpoint"


@dataclasses.dataclass
class Command:
  """The command line, taken apart but with nothing loaded yet."""

  config: str = DEFAULT
  workdir: str | None = None
  switches: set[str] = dataclasses.field(default_factory=set)
  overrides: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)


def parse(argv: Sequence[str]) -> Command:
  """Splits the arguments; what they mean is checked against the experiment later."""
  command, rest = Command(), list(argv)
  while rest:
    word = rest.pop(0)
    if not word.startswith("-") or word in ("-", "--"):
      hint = f"; did you mean --config={word}?" if ".py" in word else ""
      raise errors.Abort(f"unexpected argument {word!r}{hint}", errors.USAGE)
    name, equals, value = word.lstrip("-").partition("=")
    name = "help" if name == "h" else name
    if name in SWITCHES:
      if value.lower() not in ("", "true", "1", "false", "0"):
        raise errors.Abort(f"--{name} is true or false, got {value!r}", errors.USAGE)
      if value.lower() in ("", "true", "1"):
        command.switches.add(name)
      continue
    if name in VALUES or name.startswith("config."):
      if not equals and rest and not rest[0].startswith("--"):
        equals, value = "=", rest.pop(0)
      if name in VALUES:
        if not value:
          raise errors.Abort(f"--{name} needs a value", errors.USAGE)
        setattr(command, name, value)
      else:
        command.overrides.append((name.removeprefix("config."), value if equals else None))
      continue
    if name.startswith("noconfig."):
      command.overrides.append((name.removeprefix("noconfig."), "false"))
      continue
    command.overrides.append((f"--{name}", value))  # unknown; the experiment's fields make the hint
  return command


def check_names(command: Command, fields: Sequence[str]) -> None:
  """Raises Abort with the nearest names if a flag or field does not exist."""
  for name, _ in command.overrides:
    if name.startswith("--"):
      known = [f"--{k}" for k in (*VALUES, *SWITCHES)] + [f"--config.{f}" for f in fields]
      hint = catalogue.nearest(name, known)
      if name.removeprefix("--") in fields:
        hint = f"did you mean --config.{name.removeprefix('--')}?"
      raise errors.Abort(f"unknown flag {name}; {hint}", errors.USAGE)
    if name not in fields:
      hint = catalogue.nearest(name, fields)
      raise errors.Abort(f"no field {name!r} in {command.config}; {hint}", errors.USAGE)


def build_config(config: Any, overrides: Sequence[tuple[str, str | None]]) -> Any:
  """The config with the overrides applied, each read by its field's type."""
  hints = typing.get_type_hints(type(config))
  for field in dataclasses.fields(config):
    field.type = hints[field.name]  # config_flags cannot read types that are still strings
  words = ["launch.py"]
  for name, value in overrides:
    optional = type(None) in typing.get_args(hints[name])
    if value is None and hints[name] is not bool:
      raise errors.Abort(f"--config.{name} needs a value", errors.USAGE)
    if optional and value.lower() == "none":
      setattr(config, name, None)
    else:
      words.append(f"--config.{name}" + ("" if value is None else f"={value}"))
  parsed = flags.FlagValues()
  try:
    holder = config_flags.DEFINE_config_dataclass(
      "config", config, flag_values=parsed, sys_argv=words
    )
    parsed(words)
  except (flags.Error, ValueError, TypeError) as e:
    reason = " ".join(str(e).split())
    for name, value in overrides:
      if f"config.{name}=" in reason or f"config.{name} " in reason:
        kind = getattr(hints[name], "__name__", None) or str(hints[name])
        kind = str(hints[name]) if typing.get_args(hints[name]) else kind
        raise errors.Abort(
          f"--config.{name}={value}: this field takes {kind}, got {value!r}", errors.USAGE
        ) from e
    raise errors.Abort(reason, errors.USAGE) from e
  return holder.value


def default_workdir(experiment: catalogue.Experiment, variant: str, config: Any) -> str:
  """runs/NAME-VARIANT, with every field that differs from the variant's added."""
  usual, name = experiment.config(variant), f"{experiment.name}-{variant}"
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if value != getattr(usual, field.name):
      name += f",{field.name}={os.path.basename(value) if isinstance(value, str) else value}"
  safe = re.sub(r"[^\w.,=+-]+", "_", name)
  if len(safe) > 120:
    safe = f"{safe[:100]},{hashlib.sha256(name.encode()).hexdigest()[:8]}"
  return os.path.join("runs", safe)


def show_help(command: Command) -> str:
  """Usage, flags, and the fields of the experiment that --config names."""
  experiment, variant = catalogue.find(command.config, ROOT)
  config = experiment.config(variant)
  lines = [__doc__.split("\n", 2)[2].rstrip(), "", "Flags:"]
  lines += [f"  --{name:<9} {text}" for name, text in (VALUES | SWITCHES).items()]
  file = catalogue.address(experiment.path, ROOT)
  lines += ["", f"{file}: {experiment.title}"]
  text = f"Variants: {', '.join(experiment.variants)}"
  lines += textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="    ")
  lines += ["", f"Fields (--config.FIELD=VALUE), with their values in {variant}:"]
  width = max(len(f.name) for f in experiment.fields)
  for f in experiment.fields:
    value = repr(getattr(config, f.name))
    about = f"{f.type}. {f.comment}" if f.comment else f.type
    lines.append(f"  {f.name:<{width}}  {value:<12}  {about}")
  return "\n".join(lines)


def set_up_logging() -> None:
  """Our own INFO lines and everybody's warnings, on stderr."""

  def ours(record) -> bool:
    if "orbax" in record.pathname:  # what its threads log is raised too, and told in a line
      return False
    return record.levelno >= logging.converter.STANDARD_WARNING or record.pathname.startswith(ROOT)

  flags.FLAGS.mark_as_parsed()  # absl warns of logging before that
  logging.use_absl_handler()
  logging.set_verbosity(logging.INFO)
  logging.set_stderrthreshold("info")
  logging.get_absl_handler().addFilter(ours)


def run(command: Command, started: float) -> str:
  """Runs, resumes or shows a run; returns what to print."""
  experiment, variant = catalogue.find(command.config, ROOT)
  check_names(command, [f.name for f in experiment.fields])
  config = build_config(experiment.config(variant), command.overrides)
  workdir = command.workdir or default_workdir(experiment, variant, config)
  if "record" in command.switches:
    return results.record(experiment, variant, workdir, ROOT)

  address, plain = catalogue.address(experiment.path, ROOT), catalogue.plain(config)
  with workdirs.locked(workdir):
    workdirs.claim(workdir, address, plain)
    if result := results.finished(workdir):
      about = f"complete since an earlier run: {workdir} (delete it to run again)"
      return f"{about}\n{report.summary(experiment, variant, result)}"
    set_up_logging()
    resumed = os.path.isdir(os.path.join(workdir, "checkpoints"))
    logging.info("%s:%s in %s", address, variant, workdir)
    module = experiment.load()
    cpu.compile_sums()
    if hasattr(module, "cpu_threads"):
      cpu.limit_threads(module.cpu_threads(config))
    if hasattr(module, "cpu_devices"):
      cpu.make_devices(module.cpu_devices(config))
    # The module's own class: the declarations were executed apart from it.
    metrics = module.run(module.Config(**{f: getattr(config, f) for f in plain}), workdir)
    result = results.write(
      workdir,
      experiment=address,
      variant=variant,
      config=plain,
      metrics=metrics,
      root=ROOT,
      started=started,
      resumed=resumed,
    )
  about = f"{workdir}: {result['total_seconds']:.1f} s"
  if result["training_seconds"] is not None:
    about += f", {result['training_seconds']:.1f} s of them training"
  return f"{about}\n{report.summary(experiment, variant, result)}"


def dispatch(command: Command, started: float) -> str:
  """Does what the switches say; returns what to print."""
  if "help" in command.switches:
    return show_help(command)
  if command.switches & {"list", "report"}:
    check_names(command, [])
    if "list" in command.switches:
      return report.listing(map(catalogue.read, catalogue.paths(ROOT)), ROOT)
    changed = [os.path.relpath(p) for p in report.write(ROOT)]
    return "\n".join(f"wrote {p}" for p in changed) or "the tables are up to date"
  return run(command, started)


def is_message(error: BaseException) -> bool:
  """Whether an error is ours to the user: raised by a `raise` of this checkout, not by a bug."""
  frame = traceback.extract_tb(error.__traceback__)[-1]
  line = linecache.getline(frame.filename, frame.lineno).strip()
  return frame.filename.startswith(ROOT + os.sep) and line.startswith("raise ")


def main(argv: Sequence[str]) -> int:
  """Returns the exit code."""
  started = time.time()
  try:
    sys.stdout.write(dispatch(parse(argv), started) + "\n")
    sys.stdout.flush()
    return 0
  except errors.Abort as e:
    message, code = str(e), e.code
  except KeyboardInterrupt:
    message, code = _INTERRUPTED, 130
  except BrokenPipeError:  # `launch.py --list | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except (ValueError, ImportError, OSError) as e:
    if isinstance(e, OSError) and (e.filename or errors.disk(e)):
      message, code = errors.os_error(e, e.filename or "cannot write"), errors.FAILED
    elif is_message(e):
      message, code = str(e), errors.FAILED
    else:
      raise
  sys.stderr.write(f"launch.py: {message}\n")
  return code


def leave(signum: int, _frame: object) -> None:
  """Ends the process where no training could be saved: `harness.fit` has handlers of its own.

  At once, since an exception raised inside the import of an extension module can crash it.
  """
  sys.stderr.write(f"launch.py: {_INTERRUPTED}\n")
  sys.stderr.flush()
  os._exit(128 + signum)


if __name__ == "__main__":
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, leave)
  sys.exit(main(sys.argv[1:]))
