// The views by their names.

import { Alerts, Audit, Ledger } from './books.jsx';
import { Budgets } from './budgets.jsx';
import { Calls } from './calls.jsx';
import { Guide } from './guide.jsx';
import { Mcp } from './mcp.jsx';
import { Now } from './now.jsx';
import { Policies } from './policies.jsx';
import { Keys, Rates } from './rules.jsx';
import { Sessions } from './sessions.jsx';
import { Spend } from './spend.jsx';
import { Plugins, Prices, Providers } from './supply.jsx';
import { Who } from './who.jsx';

export const VIEW = { now: Now, spend: Spend, who: Who, sessions: Sessions, calls: Calls, budgets: Budgets, rates: Rates, keys: Keys, policies: Policies, providers: Providers,
  prices: Prices, mcp: Mcp, plugins: Plugins, alerts: Alerts, ledger: Ledger, audit: Audit, guide: Guide };
