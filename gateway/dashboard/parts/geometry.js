// Where things stand in pixels. Floats, and pure: no figure that is shown comes from here.

export const LIMIT_AT = 86;
const END = 100;

/** Shares of a budget's track in per cent. Overage is a part of what is spent. */
export function shares({ limit, spent, held, overage, low = null, forecast = null, high = null, soft = [] }) {
  const scale = (value) => (limit > 0 ? (value / limit) * LIMIT_AT : value > 0 ? END : 0);
  const cut = (value) => Math.max(0, Math.min(END, value));
  const plain = cut(scale(spent - overage));
  const afterHeld = cut(scale(spent - overage + held));
  const after = cut(scale(spent + held));
  return {
    spent: plain,
    held: { at: plain, width: afterHeld - plain },
    over: { at: afterHeld, width: after - afterHeld },
    ticks: soft.filter((share) => share > 0 && share < 1).map((share) => share * LIMIT_AT),
    forecast: forecast === null ? null : cut(scale(forecast)),
    band: low === null || high === null ? null : { at: cut(scale(low)), width: cut(scale(high)) - cut(scale(low)) },
    beyond: forecast !== null && limit > 0 && forecast > limit,
  };
}

/** Three to five round values from 0 to at least `most`. */
export function ticks(most) {
  if (!(most > 0)) return [0, 1];
  const rough = most / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * size).find((n) => n >= rough - size * 1e-9);
  const found = [];
  for (let i = 0; i * step < most + step * 0.999 && found.length < 6; i += 1) found.push(i * step);
  return found;
}

/** Values of one bucket one upon another: `[bottom, top]` each. */
export function stacked(values) {
  let at = 0;
  return values.map((value) => {
    const bottom = at;
    at += Math.max(0, value);
    return [bottom, at];
  });
}

/** Every nth label, so that none touches the next; n is a round one. */
export function labelEvery(n, width, least = 64) {
  const room = Math.max(1, Math.floor(width / least));
  const wanted = n / room;
  return [1, 2, 3, 5, 6, 7, 10, 12, 14, 15, 20, 30, 60, 90, 120, 180].find((step) => step >= wanted) || Math.ceil(wanted);
}

/** A line through points; null is a gap. */
export function path(points) {
  let text = '';
  let open = false;
  for (const point of points) {
    if (point === null) {
      open = false;
      continue;
    }
    text += `${open ? 'L' : 'M'}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    open = true;
  }
  return text;
}

/** The area between two lines of the same length. */
export function between(upper, lower) {
  return upper.length ? `${path(upper)}${path([...lower].reverse()).replace('M', 'L')}Z` : '';
}

/** How much of the logarithmic axis is below the least power of ten that it shows. */
const DECADES = 4;

/** Shares of an axis' height: straight, or by powers of ten, from 0 all the same. */
export function scale(most, log = false) {
  if (!log) return (value) => value / most;
  const unit = most / 10 ** DECADES;
  return (value) => Math.log10(1 + Math.max(0, value) / unit) / Math.log10(1 + most / unit);
}

export function logTicks(most) {
  const top = Math.ceil(Math.log10(most));
  return [0, ...Array.from({ length: 4 }, (_, i) => 10 ** (top - 3 + i))];
}

/** Is one value so far above the others that they cannot be seen beside it? */
export function isOutlying(values, times = 20) {
  const some = values.filter((value) => value > 0).sort((a, b) => a - b);
  return some.length > 2 && some[some.length - 1] > times * some[Math.floor((some.length - 1) / 2)];
}
