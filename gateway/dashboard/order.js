// Rows in the order of a column, by the digits of their money.

import { compare } from './format.js';

const BY = {
  money: compare,
  number: (a, b) => ((a ?? -Infinity) === (b ?? -Infinity) ? 0 : (a ?? -Infinity) - (b ?? -Infinity)),
  text: (a, b) => (String(a ?? '') < String(b ?? '') ? -1 : String(a ?? '') > String(b ?? '') ? 1 : 0),
};

/** `order` is a column's key, with `-` in front where it goes downwards. Rows under headings keep theirs. */
export function ordered(rows, columns, order) {
  const column = columns.find((one) => one.sort && one.key === order.replace(/^-/, ''));
  if (!column || rows.some((row) => row.group)) return rows;
  const turn = order.startsWith('-') ? -1 : 1;
  const value = column.value || ((row) => row[column.key]);
  return [...rows].sort((a, b) => turn * BY[column.sort](value(a), value(b)));
}
