// Figures for a view: a list of calls, asked together, asked again when something happened that they are about, at the latest
// every so often, and at once when a lost connection is back. Old figures stay until new ones are there.

import { useEffect, useRef, useState } from 'preact/hooks';
import { call, link } from './rpc.js';
import { follow, live, paused, returns } from './live.js';

/** Least time between two rounds, however much happens. */
const REST_MS = 2_000;
const POLL_MS = 5_000;
/** What happens is news once in this time, however much of it there is. */
const NEWS_MS = 1_000;

/**
 * `calls`: `[method, params]`, or null for one that is not wanted. Answers `{ready, results, at, reload}`; each result is
 * `{value}` or `{error}`, both where an older value still stands.
 * `on`: subscriptions whose items are news for these figures. `every`: ms after which they are asked again anyway.
 */
export function useCalls(calls, { on = [], every = 30_000 } = {}) {
  const key = JSON.stringify(calls);
  const [state, setState] = useState({ key: '', results: [], at: 0 });
  const reload = useRef(() => {});
  const polls = live.value === 'polls';
  const back = returns.value;

  useEffect(() => {
    let gone = false;
    let running = false;
    let wanted = false;
    let last = 0;
    let timer = 0;

    async function load() {
      if (gone) return;
      if (running || document.hidden) {
        wanted = true;
        return;
      }
      running = true;
      wanted = false;
      const settle = (one) =>
        one
          ? call(one[0], one[1] || {}).then(
              (value) => ({ value }),
              (error) => ({ error }),
            )
          : {};
      const results = await Promise.all(calls.map(settle));
      running = false;
      last = Date.now();
      if (gone) return;
      setState((before) => ({
        key,
        at: last,
        results: results.map((result, i) => merged(result, before.key === key ? before.results[i] : null)),
      }));
      if (wanted) soon();
    }
    function soon() {
      if (gone || timer) return;
      timer = setTimeout(
        () => {
          timer = 0;
          load();
        },
        Math.max(0, REST_MS - (Date.now() - last)),
      );
    }
    const nudge = () => {
      if (!paused.value) soon();
    };
    const shown = () => !document.hidden && wanted && soon();

    reload.current = load;
    load();
    const ends = on.map((one) => {
      const [method, params] = Array.isArray(one) ? one : [one, {}];
      return follow(method, { ...params, every_ms: NEWS_MS }, nudge);
    });
    const beat = setInterval(nudge, polls && on.length ? Math.min(every, POLL_MS) : every);
    document.addEventListener('visibilitychange', shown);
    return () => {
      gone = true;
      clearTimeout(timer);
      clearInterval(beat);
      document.removeEventListener('visibilitychange', shown);
      for (const end of ends) end();
    };
  }, [key, polls, back]);

  // Figures of another question are not shown under this one's heading for longer than its answer takes.
  return {
    ready: state.results.length > 0,
    stale: state.key !== key || link.value.state === 'down',
    results: state.results,
    at: state.at,
    reload: () => reload.current(),
  };
}

function merged(result, before) {
  if (!result.error || !before || before.value === undefined) return result;
  return { value: before.value, error: result.error };
}

/** A clock for ages: ticks once a second, in the gateway's time. */
export function useNow(every = 1000) {
  const [, tick] = useState(0);
  useEffect(() => {
    const beat = setInterval(() => !document.hidden && tick((n) => n + 1), every);
    return () => clearInterval(beat);
  }, [every]);
}
