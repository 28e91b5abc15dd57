// Who uses the page: the token's name, role and tenant, once the gateway has said them.

import { signal } from '@preact/signals';

/** `{name, role, tenant, expires}`, or null. */
export const me = signal(null);

/** The account that sums all that may be seen: of one tenant where one is asked for or the token is bound to it. */
export function wholeAccount(tenant = '') {
  const bound = tenant || (me.value && me.value.tenant) || '';
  return bound ? `tenant:${bound}` : 'global';
}
