// The gateway's JSON-RPC by POST. What is called in one turn goes in one batch. A token goes in a header and is kept for this
// tab alone. Whoever wants to know how the connection stands reads `link`.

import { signal } from '@preact/signals';

const BATCH_MAX = 32;
const WAIT_MS = 30_000;
const TOKEN = 'agentledger.token';

/** What the gateway said of a call, or what became of it. */
export class RpcError extends Error {
  constructor({ code, number = 0, message, id = '', data = {} }) {
    super(message);
    this.code = code;
    this.number = number;
    this.id = id;
    this.data = data;
  }
}

/**
 * `asked`: no token, or none that opens. `reason`: what the gateway said of the last one. `began`: figures were shown before,
 * so the page stays and asks over it.
 */
export const access = signal({ asked: false, reason: '', began: false });
/** `up`, or `down` since when, with the next try's time. */
export const link = signal({ state: 'up', since: 0, next: 0 });
/** How far the gateway's clock is ahead of this machine's, in ms, as answers say. */
export const offset = signal(0);

function stored() {
  try {
    return sessionStorage.getItem(TOKEN) || '';
  } catch {
    return '';
  }
}

let token = stored();
if (!token) access.value = { asked: true, reason: '', began: false };

export const hasToken = () => token !== '';
export const tokenForSocket = () => token;

/** Takes a token once the gateway has said that it opens. */
export async function open(candidate) {
  const answer = await send([{ jsonrpc: '2.0', id: 1, method: 'system.status', params: {} }], candidate);
  if (answer.refused) throw answer.refused;
  token = candidate;
  try {
    sessionStorage.setItem(TOKEN, candidate);
  } catch {
    // It is kept as long as the page is.
  }
  access.value = { asked: false, reason: '', began: false };
}

export function forget() {
  token = '';
  try {
    sessionStorage.removeItem(TOKEN);
  } catch {
    // There was none.
  }
  access.value = { asked: true, reason: '', began: false };
}

/** The token does not open any more: the page stays, and asks. */
export function expired(reason) {
  access.value = { asked: true, reason, began: access.value.began || answered };
}

let answered = false;
let queue = [];
let nextId = 1;

/** Calls a method; what is called before this turn ends goes together. */
export function call(method, params = {}) {
  return new Promise((resolve, reject) => {
    queue.push({ method, params: tagged(params), resolve, reject });
    if (queue.length === 1) queueMicrotask(flush);
  });
}

/** Addresses name a tag `tag:NAME`; methods take tags together, by their names. */
export function tagged(params) {
  const given = Object.entries(params);
  const tags = given.filter(([name]) => name.startsWith('tag:')).map(([name, value]) => [name.slice(4), value]);
  if (!tags.length) return params;
  return { ...Object.fromEntries(given.filter(([name]) => !name.startsWith('tag:'))), tags: Object.fromEntries(tags) };
}

/** Calls a method that changes something: with an id, so that sending it again after a lost answer does nothing twice. */
export function change(method, params, id = requestId()) {
  return call(method, { ...params, request_id: id });
}

export function requestId() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function flush() {
  const calls = queue;
  queue = [];
  for (let from = 0; from < calls.length; from += BATCH_MAX) deliver(calls.slice(from, from + BATCH_MAX));
}

async function deliver(calls) {
  const byId = new Map();
  const batch = calls.map((one) => {
    const id = nextId++;
    byId.set(id, one);
    return { jsonrpc: '2.0', id, method: one.method, params: one.params };
  });
  const answer = await send(batch, token);
  if (answer.refused) {
    for (const one of calls) one.reject(answer.refused);
    return;
  }
  for (const reply of answer.replies) {
    const one = byId.get(reply.id);
    byId.delete(reply.id);
    if (!one) continue;
    if (reply.error) one.reject(errorOf(reply.error, one.method));
    else one.resolve(reply.result);
  }
  for (const one of byId.values()) one.reject(new RpcError({ code: 'no_answer', message: `${one.method} was not answered` }));
}

function errorOf(error, method) {
  const data = error.data || {};
  return new RpcError({
    code: data.code || String(error.code),
    number: error.code,
    message: error.message,
    id: data.id || method,
    data,
  });
}

/** One request. `{replies}`, or `{refused}`: nothing of it was answered. */
async function send(batch, withToken) {
  const headers = { 'Content-Type': 'application/json' };
  if (withToken) headers.Authorization = `Bearer ${withToken}`;
  let response;
  let body;
  const began = Date.now();
  try {
    response = await fetch('/rpc', {
      method: 'POST',
      headers,
      body: JSON.stringify(batch),
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(WAIT_MS),
    });
    body = await response.json();
  } catch (error) {
    const late = error && error.name === 'TimeoutError';
    if (!response || late) down();
    const message = late
      ? 'The gateway did not answer in 30 s.'
      : response
        ? 'The answer was no JSON.'
        : 'The gateway cannot be reached.';
    return { refused: new RpcError({ code: response ? 'no_json' : 'no_connection', message }) };
  }
  clock(response, began);
  const replies = Array.isArray(body) ? body : [body];
  const whole = !Array.isArray(body) && body.error ? errorOf(body.error, 'rpc') : null;
  if (response.status === 401) {
    const refused = whole || new RpcError({ code: 'wrong_token', message: 'The token does not open.' });
    if (withToken === token) expired(refused.code === 'no_token' ? '' : refused.message);
    return { refused };
  }
  if (whole && !batch.some((one) => one.id === body.id)) return { refused: whole };
  answered = true;
  up();
  return { replies };
}

/** The header has whole seconds: half of one is taken off, and only what is clear is said. */
function clock(response, began) {
  const said = Date.parse(response.headers.get('date') || '');
  if (Number.isNaN(said)) return;
  const ahead = said + 500 - (began + Date.now()) / 2;
  if (Math.abs(ahead - offset.value) > 1500) offset.value = Math.abs(ahead) < 1500 ? 0 : Math.round(ahead);
}

/** The gateway's time, as far as it is known. */
export const now = () => Date.now() + offset.value;

export function up() {
  if (link.value.state !== 'up') link.value = { state: 'up', since: 0, next: 0 };
}

export function down(next = 0) {
  const since = link.value.state === 'down' ? link.value.since : now();
  link.value = { state: 'down', since, next };
}
