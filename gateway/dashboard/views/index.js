// The views by their names.

import { Alerts } from './alerts.jsx';
import { Audit } from './audit.jsx';
import { Budgets } from './budgets.jsx';
import { Calls } from './calls.jsx';
import { Guide } from './guide.jsx';
import { Keys } from './keys.jsx';
import { Ledger } from './ledger.jsx';
import { Mcp } from './mcp.jsx';
import { Now } from './now.jsx';
import { Plugins } from './plugins.jsx';
import { Policies } from './policies.jsx';
import { Prices } from './prices.jsx';
import { Providers } from './providers.jsx';
import { Rates } from './rates.jsx';
import { Sessions } from './sessions.jsx';
import { Spend } from './spend.jsx';
import { Who } from './who.jsx';

export const VIEW = {
  now: Now,
  spend: Spend,
  who: Who,
  sessions: Sessions,
  calls: Calls,
  budgets: Budgets,
  rates: Rates,
  keys: Keys,
  policies: Policies,
  providers: Providers,
  prices: Prices,
  mcp: Mcp,
  plugins: Plugins,
  alerts: Alerts,
  ledger: Ledger,
  audit: Audit,
  guide: Guide,
};
