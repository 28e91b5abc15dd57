// The views by their names.

import { Budgets } from './budgets.jsx';
import { Calls } from './calls.jsx';
import { Now } from './now.jsx';
import { Sessions } from './sessions.jsx';
import { Spend } from './spend.jsx';
import { Who } from './who.jsx';

export const VIEW = { now: Now, spend: Spend, who: Who, sessions: Sessions, calls: Calls, budgets: Budgets };
