// Figures as text. Money comes as decimal strings and stays one: it is rounded digit by digit, never by a float, and never
// added up here. What is not known is a dash.

export const NONE = '–';
const MINUS = '−';

/** Sign and digits of a decimal string; null for what is none. */
export function decimal(text) {
  const parts = /^([-+−]?)(\d+)(?:\.(\d*))?$/.exec(String(text ?? '').trim());
  if (!parts) return null;
  const [, sign, whole, fraction = ''] = parts;
  const digits = fraction.replace(/0+$/, '');
  const isZero = /^0*$/.test(whole) && digits === '';
  return {
    negative: (sign === '-' || sign === MINUS) && !isZero,
    whole: whole.replace(/^0+(?=\d)/, ''),
    fraction: digits,
    isZero,
  };
}

/** Rounded half away from zero to so many places. */
export function round(text, places) {
  const value = decimal(text);
  if (!value) return null;
  const kept = value.fraction.slice(0, places).padEnd(places, '0');
  let digits = BigInt(value.whole + kept);
  if (value.fraction.length > places && value.fraction[places] >= '5') digits += 1n;
  const all = digits.toString().padStart(places + 1, '0');
  const whole = all.slice(0, all.length - places);
  return { ...value, whole, fraction: places ? all.slice(-places) : '', rounded: digits };
}

/** 1234567 as 1,234,567. */
export function grouped(digits) {
  return String(digits).replace(/\B(?=(\d{3})+$)/g, ',');
}

/**
 * Money in parts, so that cents can be set apart: `{sign, whole, cents}`. `places` is the column's precision; what is smaller
 * than it and not nothing is said to be smaller. Null where there is no figure.
 */
export function money(text, places = 2) {
  const value = round(text, places);
  if (!value) return null;
  if (!value.isZero && value.rounded === 0n) {
    const least = places ? `0.${'0'.repeat(places - 1)}1` : '1';
    return { sign: value.negative ? `>${MINUS}` : '<', whole: `$${least}`, cents: '', least: true };
  }
  if (value.isZero) return { sign: '', whole: '$0', cents: places ? '.00' : '', large: false };
  return {
    sign: value.negative ? MINUS : '',
    whole: `$${grouped(value.whole)}`,
    cents: places ? `.${value.fraction}` : '',
    large: value.whole !== '0',
  };
}

/** Money as one text. */
export function usd(text, places = 2) {
  const parts = money(text, places);
  return parts ? parts.sign + parts.whole + parts.cents : NONE;
}

/** A limit: without cents where it has none. */
export function limit(text) {
  const value = decimal(text);
  return value ? usd(text, value.fraction === '' ? 0 : 2) : NONE;
}

/** Every digit that there is: for hovering and copying. */
export function exact(text) {
  const value = decimal(text);
  if (!value) return NONE;
  return `${value.negative ? MINUS : ''}$${grouped(value.whole)}.${value.fraction.padEnd(2, '0')}`;
}

/** An amount of a budget's unit. */
export function amount(text, unit, places = 2) {
  if (unit === undefined || unit === 'usd') return usd(text, places);
  const value = decimal(text);
  return value ? grouped(value.whole) : NONE;
}

/** An axis' figure: $0, $500, $1.5k, $2M. Only pixels and axes are floats. */
export function axis(value, prefix = '$') {
  const short = (n) => String(Number(n.toPrecision(3)));
  for (const [size, letter] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ]) {
    if (value >= size) return `${prefix}${short(value / size)}${letter}`;
  }
  return `${prefix}${short(value)}`;
}

/** -1, 0 or 1 for two decimal strings, by their digits. What is no number comes first. */
export function compare(a, b) {
  const [one, two] = [decimal(a), decimal(b)];
  if (!one || !two) return (one ? 1 : 0) - (two ? 1 : 0);
  if (one.negative !== two.negative) return one.negative ? -1 : 1;
  const places = Math.max(one.fraction.length, two.fraction.length);
  const digits = (value) => BigInt(value.whole + value.fraction.padEnd(places, '0'));
  const order = digits(one) < digits(two) ? -1 : digits(one) > digits(two) ? 1 : 0;
  return one.negative ? -order : order;
}

/** For placing pixels and for ratios only. */
export function pixels(text) {
  const value = Number(String(text ?? '').replace(MINUS, '-'));
  return Number.isFinite(value) ? value : 0;
}

export function count(value) {
  return Number.isFinite(value) ? (value < 0 ? MINUS : '') + grouped(Math.abs(Math.round(value))) : NONE;
}

/** Tokens of a sum: 1.62B, 206M, 61.9k only from a million on. */
export function compact(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value < 1e6) return count(value);
  const [size, letter] = value >= 999.5e9 ? [1e12, 'T'] : value >= 999.5e6 ? [1e9, 'B'] : [1e6, 'M'];
  const scaled = value / size;
  return `${scaled.toFixed(scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2)}${letter}`;
}

export function percent(share, places = 1) {
  return Number.isFinite(share) ? `${(share * 100).toFixed(places)} %` : NONE;
}

/** From one sum to another: +10.7 %, −4.2 %, `new` where there was nothing. */
export function change(now, before) {
  const [a, b] = [pixels(now), pixels(before)];
  if (b === 0) return a === 0 ? NONE : 'new';
  const share = (a - b) / Math.abs(b);
  if (Math.abs(share) >= 10) return `${share > 0 ? '×' : MINUS}${count(a / b)}`;
  return `${share < 0 ? MINUS : '+'}${percent(Math.abs(share))}`;
}

/** A span of time: 0:08, 2:47, 3 h 40, 12 days. */
export function age(ms) {
  if (!Number.isFinite(ms)) return NONE;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))}`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** How long something lasted, in words: 19 s, 14 min, 1 h 12. */
export function lasted(ms) {
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 60_000) return `${Math.max(0, Math.round(ms / 1000))} s`;
  return ms < 3600_000 ? `${Math.floor(ms / 60_000)} min` : age(ms);
}

/** A latency: 310 ms, 1.4 s, 2:11. */
export function latency(ms) {
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : age(ms);
}

export function bytes(size) {
  if (!Number.isFinite(size)) return NONE;
  for (const [unit, letters] of [
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'KB'],
  ]) {
    if (size >= unit) return `${Number((size / unit).toPrecision(3))} ${letters}`;
  }
  return `${size} B`;
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
