"""Where data is looked for."""

from geoemb.data import paths


def test_root_is_argument_then_variable_then_data(monkeypatch, tmp_path):
  monkeypatch.setenv(paths.VARIABLE, "/somewhere")
  assert paths.root(tmp_path) == str(tmp_path)
  assert paths.root() == "/somewhere"
  monkeypatch.delenv(paths.VARIABLE)
  assert paths.root() == "data"
