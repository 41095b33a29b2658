import types

import pytest

from geoemb import manifolds
from geoemb.models import hierarchy


@pytest.mark.parametrize(
  "name, value, must",
  [
    ("dim", 0, "be positive"),
    ("batch_size", -1, "be positive"),
    ("lr_batch", 0, "be positive"),
    ("c", 0, "be positive"),
    ("c", float("nan"), "be positive"),
    ("epochs", -5, "be at least 0"),
    ("burn_in", -1, "be at least 0"),
  ],
)
def test_settings_out_of_range_are_refused(tmp_path, name, value, must):
  sound = dict(dim=2, batch_size=10, lr_batch=10, epochs=0, burn_in=0, c=1.0)
  config = types.SimpleNamespace(**sound | {name: value})
  m = manifolds.make("lorentz", config.c)
  with pytest.raises(ValueError, match=f"^{name} must {must}, got {value}$"):
    hierarchy.run(config, str(tmp_path), m=m, score=None, optimizer=None)
