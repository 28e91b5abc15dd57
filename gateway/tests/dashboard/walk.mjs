// The walk: every view, then everything that is done with it. Exits with 1 where a check failed.

import { acts } from './acts.mjs';
import { launch, summed } from './rig.mjs';
import { views } from './views.mjs';

const browser = await launch();
const only = process.env.ONLY;
if (only !== 'acts') await views(browser);
if (only !== 'views') await acts(browser);
await browser.close();
process.exit(summed() ? 1 : 0);
