// Names for choosing from, asked once for all views.

import { useEffect, useState } from 'preact/hooks';
import { call } from '../rpc.js';

const known = new Map();

function useNames(by) {
  const [names, setNames] = useState(known.get(by) || []);
  useEffect(() => {
    if (known.has(by)) return;
    call('ledger.summary', { by, last: '30d' }).then(
      (value) => {
        const found = value.rows
          .map((row) => row[by] ?? row.tag)
          .filter(Boolean)
          .slice(0, 200);
        known.set(by, found);
        setNames(found);
      },
      () => {},
    );
  }, [by]);
  return names;
}

export const useTenants = () => useNames('tenant');
