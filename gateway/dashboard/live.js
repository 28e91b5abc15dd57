// The socket: what happens, as it happens. One connection for the page; whoever follows something says so by `follow`, and it
// is subscribed anew after each reconnection. Its token is its first message, since a page cannot give a socket headers.
// Where the gateway cannot be followed (an older one), `live` says `polls` and views ask every few seconds.

import { effect, signal } from '@preact/signals';
import { access, call, down, hasToken, tokenForSocket, up } from './rpc.js';

/** `off`, `live`, `polls`, `lost`. */
export const live = signal('off');
/** Counts what was lost and won again: whoever shows figures asks for them anew. */
export const returns = signal(0);
export const paused = signal(false);

const FIRST_MS = 1_000;
const MOST_MS = 30_000;

let socket = null;
let tries = 0;
let begunBefore = false;
let timer = 0;
let nextId = 1;
const followers = new Map();
const waiting = new Map();

/** Calls `each` with items of a subscription until the answer is called. `each(null)` says that there is a gap. */
export function follow(method, params, each) {
  const key = `${method} ${JSON.stringify(params)}`;
  let one = followers.get(key);
  if (!one) {
    one = { method, params, all: new Set(), id: null };
    followers.set(key, one);
    if (live.value === 'live') subscribe(one);
  }
  one.all.add(each);
  return () => {
    one.all.delete(each);
    if (one.all.size || followers.get(key) !== one) return;
    followers.delete(key);
    if (one.id !== null) send(`${method}.end`, { subscription: one.id });
  };
}

/** Tries at once, whatever is waited for. */
export function tryNow() {
  clearTimeout(timer);
  connect();
}

function connect() {
  if (!hasToken() || access.value.asked) return;
  if (socket && socket.readyState <= WebSocket.OPEN) return;
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const mine = new WebSocket(`${scheme}//${location.host}/rpc`);
  socket = mine;
  mine.onopen = () => {
    send('system.authenticate', { token: tokenForSocket() }, (answer) => {
      if (answer.error) {
        mine.close();
        return;
      }
      begun();
    });
  };
  mine.onmessage = (event) => take(event.data);
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    waiting.clear();
    for (const one of followers.values()) one.id = null;
    ended();
  };
}

function begun() {
  tries = 0;
  live.value = 'live';
  up();
  for (const one of followers.values()) subscribe(one);
  // Whatever happened in between, figures are asked for anew; at the very beginning they are asked for anyway.
  if (begunBefore) returns.value += 1;
  begunBefore = true;
}

/** Is the gateway gone, or does it have no socket for pages? A call by POST tells. */
async function ended() {
  if (!hasToken() || access.value.asked) {
    live.value = 'off';
    return;
  }
  let reached = false;
  try {
    await call('system.status');
    reached = true;
  } catch (error) {
    reached = error.code !== 'no_connection' && error.code !== 'no_json';
  }
  if (access.value.asked) return;
  const wait = Math.min(MOST_MS, FIRST_MS * 2 ** tries) * (0.8 + 0.4 * Math.random());
  tries += 1;
  if (reached) {
    // It answers calls and has no socket for this page: figures are asked for, and the socket is tried again.
    if (live.value === 'lost') returns.value += 1;
    live.value = 'polls';
    up();
    timer = setTimeout(connect, wait);
    return;
  }
  live.value = 'lost';
  down(Date.now() + wait);
  timer = setTimeout(connect, wait);
}

function send(method, params, then) {
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  const id = nextId++;
  if (then) waiting.set(id, then);
  socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
}

function subscribe(one) {
  send(one.method, one.params, (answer) => {
    if (answer.error) return;
    one.id = answer.result;
    if (!one.all.size) send(`${one.method}.end`, { subscription: one.id });
  });
}

function take(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    return;
  }
  if (message.id !== undefined && message.id !== null) {
    const then = waiting.get(message.id);
    waiting.delete(message.id);
    if (then) then(message);
    return;
  }
  const { subscription, result } = message.params || {};
  for (const one of followers.values()) {
    if (one.id === null || one.id !== subscription) continue;
    const lagged = result && result.lagged !== undefined;
    if (lagged) {
      one.id = null;
      subscribe(one);
    }
    for (const each of one.all) each(lagged ? null : result);
  }
}

/** Connects whenever there is a token, and lets go when it does not open any more. */
export function start() {
  effect(() => {
    if (!access.value.asked) {
      tries = 0;
      tryNow();
    } else if (socket) {
      socket.close();
    }
  });
  addEventListener('online', tryNow);
}
