// Accounts as people read them: `tenant:acme`, `tag:team=ml`, `session:acme/run-1`, `global`.

const SHORT = { tag: '' };

/** Kind and name. A team is a tag that everybody knows by its own word. */
export function accountWords(account) {
  if (account === 'global') return ['', 'Everything'];
  const at = account.indexOf(':');
  if (at < 0) return [account, `each ${account}`];
  const [kind, name] = [account.slice(0, at), account.slice(at + 1)];
  if (kind !== 'tag') return [SHORT[kind] ?? kind, name];
  const [tag, ...value] = name.split('=');
  return value.length ? [tag, value.join('=')] : ['tag', name];
}

/** The group in which it stands. */
export function accountGroup(account) {
  if (account === 'global') return 'Whole gateway';
  if (/^(tenant:|tag:)/.test(account)) return 'Teams and tenants';
  if (/^agent/.test(account)) return 'Agents, each by itself';
  if (/^(session|key|task|user)/.test(account)) return 'Sessions, keys and users';
  return 'Models, providers and tools';
}

/** The filter whose entries an account sums; null where there is none. */
export function accountFilter(account) {
  if (account === 'global') return {};
  const at = account.indexOf(':');
  const [kind, name] = [account.slice(0, at), account.slice(at + 1)];
  if (kind === 'tag') {
    const [tag, ...value] = name.split('=');
    return value.length ? { [`tag:${tag}`]: value.join('=') } : null;
  }
  return ['tenant', 'agent', 'session', 'user', 'model', 'provider', 'key', 'tool'].includes(kind) ? { [kind]: name } : null;
}
