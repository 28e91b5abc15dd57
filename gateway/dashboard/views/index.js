// The views by their names.

import { Now } from './now.jsx';

export const VIEW = { now: Now };
