"""Line searches along a geodesic t ↦ exp_x(t v) [absil2008optimization] §4.2."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import Manifold
from geoemb.typing import Array, Scalar

# A value near a minimum of f is known to that many eps: sums of a thousand terms round to about 32.
_NOISE = 64


class _Search(NamedTuple):
  step: Array  # [] to be tried next
  low: tuple  # [] each: t, φ(t), φ'(t) of the best t that decreases φ enough, 0 at first
  high: tuple  # the same where the interval ends on its other side; not used before `closed`
  closed: Array  # [] bool, whether there is such a side
  done: Array  # [] bool, whether `low` is to be returned
  count: Array  # [] int32


def search(
  f: Callable[[Array], Array],
  m: Manifold,
  x: Array,
  v: Array,
  first: Scalar,
  start: tuple[Array, Array],
  *,
  c1: Scalar = 1e-4,
  c2: Scalar = 0.9,
  max_iter: int = 30,
) -> Array:
  """The t ≥ 0 that φ(t) = f(exp_x(t v)) decreases enough at, []; 0 where none was found.

  Armijo's condition is φ(t) ≤ φ(0) + c₁ t φ'(0), the strong Wolfe conditions have besides
  |φ'(t)| ≤ c₂ |φ'(0)|. Bracketing and zooming as in [nocedal2006numerical] §3.5. Where φ falls by
  less than it rounds, its slope decides instead, as in [hager2005descent]: so a minimum is found
  to eps and not to √eps.

  Args:
    f: from points to a scalar, [].
    m: the manifold of each of x.
    x: [..., d] points.
    v: [..., d] tangents, a direction of descent.
    first: the t that is tried first.
    start: φ(0) and φ'(0), [] each: f(x) and the inner product of its gradient with v.
    c1: least share of the decrease that the slope foretells.
    c2: largest share of the slope that is left; infinity for Armijo's condition alone.
    max_iter: values of φ, at most.
  """

  def phi(t: Array) -> tuple[Array, Array]:
    return jax.jvp(lambda t: f(m.exp(x, t * v)), (t,), (jnp.ones_like(t),))

  zero = jnp.zeros([], x.dtype)
  f_0, d_0 = start
  noise = _NOISE * numerics.eps(x.dtype) * jnp.abs(f_0)

  def trial(s: _Search) -> _Search:
    t, f_low = s.step, s.low[1]
    f_t, d_t = phi(t)
    finite = jnp.isfinite(f_t) & jnp.isfinite(d_t)
    level = (-t * d_0 <= noise) & (f_t <= f_0 + noise) & (d_t <= (2 * c1 - 1) * d_0)
    enough = finite & ((f_t <= f_0 + c1 * t * d_0) | level)
    enough = enough & (f_t <= f_low + noise)
    done = enough & (jnp.abs(d_t) <= -c2 * d_0)
    # With enough decrease t is the new low; the other end stays if φ falls towards it.
    ahead = s.closed & (d_t * (s.high[0] - t) < 0) | ~s.closed & (d_t < 0)
    here, keep = (t, f_t, d_t), lambda c, a, b: tuple(jnp.where(c, p, q) for p, q in zip(a, b))
    high = keep(~enough, here, keep(ahead, s.high, s.low))
    low = keep(enough, here, s.low)
    closed = s.closed | ~enough | ~ahead
    step = jnp.where(closed, _between(low, high), 2 * t)
    return _Search(step, low, high, closed, done, s.count + 1)

  start = _Search(
    jnp.asarray(first, x.dtype), (zero, f_0, d_0), (zero, f_0, d_0), jnp.asarray(False),
    ~(d_0 < 0), jnp.int32(0)
  )  # fmt: skip
  go = lambda s: ~s.done & (s.count < max_iter)
  return jax.lax.while_loop(go, trial, start).low[0]


def _between(low: tuple, high: tuple) -> Array:
  """The minimum of the cubic through both ends, kept a tenth away from them, or else the middle."""
  (a, f_a, d_a), (b, f_b, d_b) = low, high
  width = b - a
  wide = jnp.where(width != 0, width, 1)
  p = d_a + d_b - 3 * (f_b - f_a) / wide
  square = p * p - d_a * d_b
  root = jnp.sign(width) * jnp.sqrt(jnp.where(square > 0, square, 1))
  below = d_b - d_a + 2 * root
  share = 1 - (d_b + root - p) / jnp.where(below != 0, below, 1)
  good = (square > 0) & (below != 0) & jnp.isfinite(share)
  share = jnp.where(good, jnp.clip(jnp.where(good, share, 0.5), 0.1, 0.9), 0.5)
  return a + share * width
