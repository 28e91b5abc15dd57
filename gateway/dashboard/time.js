// Points in time as text, in UTC (the gateway's days) or in the browser's zone, and the spans that a view can have.

import { NONE } from './format.js';

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
export const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const LONG_MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const two = (n) => String(n).padStart(2, '0');

/** The parts of a moment, as a calendar of the zone shows them. */
function parts(at, zone) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return null;
  const get = (name) => (zone === 'local' ? date[`get${name}`]() : date[`getUTC${name}`]());
  return {
    year: get('FullYear'),
    month: get('Month'),
    day: get('Date'),
    weekday: get('Day'),
    hour: get('Hours'),
    minute: get('Minutes'),
    second: get('Seconds'),
  };
}

const sameDay = (a, b) => a.year === b.year && a.month === b.month && a.day === b.day;

/** 14:32:04 today, else Thu 19 Nov 14:32; with the year where it is another one. */
export function moment(at, now, zone = 'utc') {
  const [one, today] = [parts(at, zone), parts(now, zone)];
  if (!one || !today || at === null || at === undefined) return NONE;
  if (sameDay(one, today)) return `${two(one.hour)}:${two(one.minute)}:${two(one.second)}`;
  const year = one.year === today.year ? '' : ` ${one.year}`;
  return `${WEEKDAYS[one.weekday]} ${one.day} ${MONTHS[one.month]}${year} ${two(one.hour)}:${two(one.minute)}`;
}

/** 14:32 today, else 19 Nov: for narrow columns. */
export function brief(at, now, zone = 'utc') {
  const [one, today] = [parts(at, zone), parts(now, zone)];
  if (!one || !today || at === null || at === undefined) return NONE;
  if (sameDay(one, today)) return `${two(one.hour)}:${two(one.minute)}`;
  return `${one.day} ${MONTHS[one.month]}${one.year === today.year ? '' : ` ${one.year}`}`;
}

/** Thu 26 Nov, or today 18:20: when something will be. */
export function ahead(at, now, zone = 'utc') {
  const [one, today] = [parts(at, zone), parts(now, zone)];
  if (!one || !today || !at) return NONE;
  if (sameDay(one, today)) return `today ${two(one.hour)}:${two(one.minute)}`;
  return `${WEEKDAYS[one.weekday]} ${one.day} ${MONTHS[one.month]}`;
}

export function date(at, zone = 'utc') {
  const one = parts(at, zone);
  return one && at ? `${one.day} ${MONTHS[one.month]} ${one.year}` : NONE;
}

export function day(at, zone = 'utc') {
  const one = parts(at, zone);
  return one ? `${one.day} ${MONTHS[one.month]}` : NONE;
}

export const monthName = (at) => LONG_MONTHS[new Date(at).getUTCMonth()];
export const weekday = (at) =>
  ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'][new Date(at).getUTCDay()];
export const dayStart = (at) => Math.floor(at / DAY) * DAY;
export const iso = (at) => new Date(at).toISOString();

/** The beginning and the end of the UTC month of a moment. */
export function monthOf(at) {
  const [year, month] = [new Date(at).getUTCFullYear(), new Date(at).getUTCMonth()];
  return [Date.UTC(year, month, 1), Date.UTC(year, month + 1, 1)];
}

/** What `last` may say, and by what steps it is drawn. */
export const SPANS = {
  '30m': { label: '30 min', ms: 30 * MINUTE, step: 'minute', step_ms: MINUTE },
  '24h': { label: '24 h', ms: DAY, step: 'hour', step_ms: HOUR },
  '7d': { label: '7 d', ms: 7 * DAY, step: 'day', step_ms: DAY },
  '30d': { label: '30 d', ms: 30 * DAY, step: 'day', step_ms: DAY },
  '1y': { label: '1 y', ms: 365 * DAY, step: 'day', step_ms: DAY },
};

/**
 * The span of a view: whole steps that end with the one that is going on. `from` and `to` (RFC 3339) win over `last`.
 * Its beginning stands still within a step, so that answers can be compared and remembered.
 */
export function span({ last, from, to }, now, fallback = '30d') {
  if (from) {
    const [begin, end] = [Date.parse(from), to ? Date.parse(to) : now];
    if (begin < end) {
      const length = end - begin;
      const [step, step_ms] = length <= 3 * HOUR ? ['minute', MINUTE] : length <= 3 * DAY ? ['hour', HOUR] : ['day', DAY];
      return { from: begin, to: end, step, step_ms, fixed: true, label: 'this period' };
    }
  }
  const name = Object.hasOwn(SPANS, last ?? '') ? last : fallback;
  const { ms, step, step_ms, label } = SPANS[name];
  const end = (Math.floor(now / step_ms) + 1) * step_ms;
  return { from: end - ms, to: end, step, step_ms, last: name, label, fixed: false };
}

/** Where each bucket of a span begins. */
export function buckets({ from, to, step_ms }) {
  const starts = [];
  for (let at = Math.floor(from / step_ms) * step_ms; at < to && starts.length < 2000; at += step_ms) starts.push(at);
  return starts;
}

/** The name of a bucket. */
export function bucketName(at, step, now, zone = 'utc') {
  const one = parts(at, step === 'day' ? 'utc' : zone);
  const name = `${WEEKDAYS[one.weekday]} ${one.day} ${MONTHS[one.month]}`;
  return step === 'day' ? name : `${name} ${two(one.hour)}:${two(one.minute)}`;
}

/** From when to when a list of entries goes: to the end of the minute that runs. */
export function period(query, at) {
  const minute = Math.floor(at / MINUTE) * MINUTE;
  const range = span(query, minute, '24h');
  return { from: iso(range.from), to: iso(range.fixed ? range.to : Math.max(range.to, minute + MINUTE)) };
}
