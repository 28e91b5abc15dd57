// The views by their names, in the order of the side.

export const GROUPS = [
  ['', ['now', 'spend', 'who', 'sessions', 'calls']],
  ['Rules', ['budgets', 'rates', 'keys', 'policies']],
  ['Supply', ['providers', 'prices', 'mcp', 'plugins']],
  ['Books', ['alerts', 'ledger', 'audit', 'guide']],
];

export const TITLES = {
  now: 'Now',
  spend: 'Spend',
  who: 'Who',
  sessions: 'Sessions',
  calls: 'Calls',
  budgets: 'Budgets',
  rates: 'Rates',
  keys: 'Keys',
  policies: 'Policies',
  providers: 'Providers',
  prices: 'Prices',
  mcp: 'MCP',
  plugins: 'Plugins',
  alerts: 'Alerts',
  ledger: 'Ledger',
  audit: 'Audit',
  guide: 'Guide',
};

export const TABS = ['now', 'spend', 'sessions', 'budgets'];
