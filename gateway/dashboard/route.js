// The address and the page, kept together.

import { computed, signal } from '@preact/signals';
import { filtersOf, read, write } from './url.js';

export const route = signal(read(location.pathname, location.search));
export const filters = computed(() => filtersOf(route.value.query));

addEventListener('popstate', () => {
  route.value = read(location.pathname, location.search);
});

/** Goes somewhere; `replace` where it is no step that one would go back over (a sort, a selection by arrows). */
export function go(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', address);
  const before = route.value;
  route.value = read(location.pathname, location.search);
  if (before.view !== route.value.view) scrollTo(0, 0);
}

/** This view with some of its query changed; null takes a name out. */
export function here(patch) {
  const { view, query, rest } = route.value;
  return write(view, { ...query, ...patch }, rest);
}

export const set = (patch, options) => go(here(patch), options);
export const to = (view, query, rest) => write(view, query, rest);

/** A click on a link of the page's own stays in the page. */
export function onClick(event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest && event.target.closest('a[href^="/"]');
  if (!link || link.target || link.hasAttribute('download')) return;
  event.preventDefault();
  go(link.getAttribute('href'));
}
