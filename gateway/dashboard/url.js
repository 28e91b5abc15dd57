// Where the page stands is its address, whole: the view is the path, every filter, sort and period is in the query. Nothing
// secret ever stands there. Pure; `route.js` keeps it and the browser's history together.

/** Views by their path. */
export const VIEWS = [
  'now',
  'spend',
  'who',
  'sessions',
  'calls',
  'budgets',
  'rates',
  'keys',
  'policies',
  'providers',
  'prices',
  'mcp',
  'plugins',
  'alerts',
  'ledger',
  'audit',
  'guide',
];

/** What entries can be filtered by. */
export const FILTERS = ['tenant', 'agent', 'session', 'user', 'task', 'model', 'provider', 'key', 'tool'];

/** The view of a path, with the rest of the path (`/guide/budgets`); null where there is none. */
export function viewOf(path) {
  const [first = '', ...rest] = path.replace(/^\/+|\/+$/g, '').split('/');
  if (first === '') return { view: 'now', rest: '' };
  return VIEWS.includes(first) && first !== 'now' ? { view: first, rest: decode(rest.join('/')) } : null;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}

/** Read from `pathname` and `search`. Of a name that comes twice the last counts; empty values are none. */
export function read(pathname, search) {
  const found = viewOf(pathname);
  const query = {};
  for (const [name, value] of new URLSearchParams(search)) {
    if (value !== '') query[name] = value;
  }
  return { view: found ? found.view : 'lost', rest: found ? found.rest : '', query };
}

/** Its address. Names are sorted: one place has one address. */
export function write(view, query = {}, rest = '') {
  const path = (view === 'now' ? '/' : `/${view}`) + (rest ? `/${encodeURIComponent(rest)}` : '');
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  const text = pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`).join('&');
  return text ? `${path}?${text}` : path;
}

/** The filters among a query's names, `tag:NAME` too. */
export function filtersOf(query) {
  const found = {};
  for (const [name, value] of Object.entries(query)) {
    if (FILTERS.includes(name) || name.startsWith('tag:')) found[name] = value;
  }
  return found;
}
