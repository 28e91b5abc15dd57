// New calls as they come, for a list that somebody may be reading.

import { useEffect, useRef, useState } from 'preact/hooks';
import { now } from '../rpc.js';
import { follow, paused } from '../live.js';
import { iso } from '../time.js';

export const PAGE = 100;

export const WAITING_MAX = 999;

/** New rows go in on top only while nobody reads: at the top, and neither hovered nor focused. Else they wait and are counted. */
export function useTail(tail, calls) {
  const ref = useRef(null);
  const held = useRef([]);
  const [fresh, setFresh] = useState([]);
  const [waiting, setWaiting] = useState(0);
  const [gap, setGap] = useState('');
  const key = tail && JSON.stringify(tail);
  const take = () => {
    const some = held.current;
    held.current = [];
    setWaiting(0);
    setFresh((before) => [...some, ...before].slice(0, PAGE));
  };
  useEffect(() => {
    setFresh([]);
    setGap('');
    held.current = [];
    setWaiting(0);
  }, [key, calls]);
  useEffect(() => {
    if (!key) return undefined;
    let painted = 0;
    const end = follow('ledger.tail', tail, (item) => {
      if (item === null) setGap(iso(now()));
      else if (item.entry && held.current.length < WAITING_MAX) held.current.unshift(item.entry);
    });
    const beat = setInterval(() => {
      if (!held.current.length || document.hidden) return;
      const reads = paused.value || scrollY > 0 || (ref.current && ref.current.querySelector('table:hover, tr:focus-within'));
      if (!reads) take();
      else if (painted !== held.current.length) setWaiting(held.current.length);
      painted = held.current.length;
    }, 500);
    return () => {
      end();
      clearInterval(beat);
    };
  }, [key]);
  const known = new Set(calls.map((one) => one.id));
  return [ref, fresh.filter((one) => !known.has(one.id)), waiting, take, gap];
}
