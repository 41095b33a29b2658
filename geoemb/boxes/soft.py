"""Functions of soft boxes in log-space, with closed derivatives over the whole range of floats."""

import math

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array


@jax.custom_jvp
def soft_max(x: Array, y: Array, temperature: Array) -> Array:
  """T log(exp(x/T) + exp(y/T)), [...], for T > 0: never below max(x, y), their maximum for T → 0.

  Its derivatives are closed forms: 1/(1 + exp(∓r)) by x and y with r = (x − y)/T, and by T the
  entropy of these two weights.
  """
  return _soft_max(x, y, temperature)[0]


def _soft_max(x: Array, y: Array, temperature: Array) -> tuple[Array, Array, Array]:
  """The value, (x − y)/T and the part log(1 + exp(−|x − y|/T)), [...] each."""
  r = numerics.rounded(numerics.rounded(x - y) / temperature)
  part = jnp.log1p(jnp.exp(-jnp.abs(r)))
  return numerics.rounded(jnp.where(x > y, x, y) + temperature * part), r, part


@soft_max.defjvp
def _soft_max_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  value, r, part = _soft_max(*primals)
  dx, dy, dt = tangents
  a = jnp.abs(r)
  entropy = part + a * jax.nn.sigmoid(-a)  # 0 for large a, which is finite
  return value, jax.nn.sigmoid(r) * dx + jax.nn.sigmoid(-r) * dy + entropy * dt


@jax.custom_jvp
def log_softplus(x: Array) -> Array:
  """Logarithm of log(1 + eˣ), [...]: x for x → −∞, log x for x → ∞."""
  return _log_softplus(x)[0]


def _log_softplus(x: Array) -> tuple[Array, Array]:
  """The value and its derivative σ(x)/log(1 + eˣ), [...] each."""
  y = jnp.exp(-jnp.abs(x))
  small = y < numerics.eps(x.dtype)
  some = jnp.where(small, 1, y)
  over = jnp.where(small, 1 - 0.5 * y, jnp.log1p(some) / some)  # log(1 + y)/y
  positive = jnp.where(x > 0, x, 0) + y * over
  positive = jnp.where(x > 0, positive, 1)
  value = jnp.where(x > 0, jnp.log(positive), x + jnp.log(over))
  return value, 1 / ((1 + y) * jnp.where(x > 0, positive, over))


@log_softplus.defjvp
def _log_softplus_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  value, slope = _log_softplus(*primals)
  return value, slope * tangents[0]


def softplus_inverse(y: Array) -> Array:
  """The x with log(1 + eˣ) = y, [...], as y + log(1 − e⁻ʸ); least for y below 2^-126 or 2^-1022."""
  least = float(jnp.finfo(y.dtype).tiny)
  y = jnp.where(y > least, y, least)
  return y + jnp.log(-jnp.expm1(-y))


# √(2x/π) eˣ K0(x) and K1(x)/K0(x) for x ≥ 1 as quotients of polynomials in 1/x, by ascending
# powers. Interpolated at 17 squared Chebyshev nodes of [0, 1] in 60 digits; they are off by at most
# 1.4e-16 and 3.2e-16, and as no coefficient is negative, nothing cancels.
_K0_SCALED = (
  (1.0, 15.866854147692434, 92.8404168486566, 255.0565713878104, 347.4289388818651,
   228.1850156884223, 64.85974005325585, 6.18476286091026, 0.09174180983970037),
  (1.0, 15.991854147692434, 94.76908611711816, 265.8515220951808, 375.0560540580021,
   261.7490203517716, 83.10961445736483, 9.918441519558051, 0.274587045089252),
)  # fmt: skip
_K1_OVER_K0 = (
  (1.0, 16.109260670182394, 97.12821249215615, 281.9789059532088, 423.66815367878377,
   330.1332099679527, 126.2838161020875, 20.520156780410876, 0.9671043751227621),
  (1.0, 15.609260670182394, 89.4485821570649, 239.08077245847116, 313.5529951320198,
   194.7031701473724, 50.418265520878535, 3.9494349334388636, 0.019950377693016462),
)  # fmt: skip
EULER_GAMMA = 0.57721566490153286


@jax.custom_jvp
def log_k0(w: Array) -> Array:
  """Logarithm of the modified Bessel function K0(x) by w = log(x/2), [...], for any x = 2eʷ.

  log(−w − γ) for w → −∞, and −x + log(π/(2x))/2 for large x. The slope is −x K1(x)/K0(x).
  From x = `numerics.slope_max` on (w = 76.9 in float32, 698.0 in float64) the function goes on
  along its tangent, and its value ends at the least number.
  """
  return _log_k0(w)[0]


def _log_k0(w: Array) -> tuple[Array, Array]:
  """The value and its derivative by w, [...] each."""
  # x < 1: the ascending series, DLMF 10.31.1 and 10.31.2; ten terms with (x/2)² ≤ 1/4.
  near = w < -math.log(2)
  v = jnp.where(near, w, -1)
  q, lead = jnp.exp(2 * v), -(v + EULER_GAMMA)
  n, h = range(10), [sum(1 / j for j in range(1, k + 1)) for k in range(11)]
  i0 = [1 / math.factorial(k) ** 2 for k in n]
  i1 = [1 / (math.factorial(k) * math.factorial(k + 1)) for k in n]
  k0 = lead * numerics.series(i0, q) + numerics.series([h[k] * i0[k] for k in n], q)
  mean = [(h[k] + h[k + 1]) / 2 * i1[k] for k in n]
  x_k1 = 1 - 2 * q * (lead * numerics.series(i1, q) + numerics.series(mean, q))
  # x ≥ 1
  end = math.log(numerics.slope_max(w.dtype) / 2)
  u = jnp.where(near, 0, jnp.where(w > end, end, w))
  x = 2 * jnp.exp(u)
  scaled = numerics.series(_K0_SCALED[0], 1 / x) / numerics.series(_K0_SCALED[1], 1 / x)
  slope = -x * (numerics.series(_K1_OVER_K0[0], 1 / x) / numerics.series(_K1_OVER_K0[1], 1 / x))
  past = jnp.where(w > end, w - end, 0)
  far = 0.5 * (math.log(math.pi / 4) - u) + jnp.log(scaled) - x + slope * past
  return jnp.where(near, jnp.log(k0), numerics.rounded(far)), jnp.where(near, -x_k1 / k0, slope)


@log_k0.defjvp
def _log_k0_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  value, slope = _log_k0(*primals)
  return value, slope * tangents[0]
