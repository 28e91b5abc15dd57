// Two texts line by line: what stands in both, what came in, what went. Pure.

/** `[sign, line, old number, new number]`, sign one of ' ', '+', '-'. Long texts are compared between their equal ends alone. */
export function diff(before, after) {
  const [a, b] = [before.split('\n'), after.split('\n')];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const rows = a.slice(0, head).map((line, i) => [' ', line, i + 1, i + 1]);
  rows.push(...middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail), head));
  for (let i = tail; i > 0; i -= 1) rows.push([' ', a[a.length - i], a.length - i + 1, b.length - i + 1]);
  return rows;
}

const MOST = 1500;

function middle(a, b, offset) {
  if (a.length > MOST || b.length > MOST) {
    return [...a.map((line, i) => ['-', line, offset + i + 1, null]), ...b.map((line, i) => ['+', line, null, offset + i + 1])];
  }
  // Lengths of the longest lines in common from here on.
  const same = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1)
      same[i][j] = a[i] === b[j] ? same[i + 1][j + 1] + 1 : Math.max(same[i + 1][j], same[i][j + 1]);
  }
  const rows = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      rows.push([' ', a[i], offset + i + 1, offset + j + 1]);
      i += 1;
      j += 1;
    } else if (i < a.length && (j === b.length || same[i + 1][j] >= same[i][j + 1])) {
      rows.push(['-', a[i], offset + i + 1, null]);
      i += 1;
    } else {
      rows.push(['+', b[j], null, offset + j + 1]);
      j += 1;
    }
  }
  return rows;
}

/** Only what changed, with so many lines around it; null stands for what is left out. */
export function around(rows, lines = 3) {
  const near = rows.map((_, i) => rows.slice(Math.max(0, i - lines), i + lines + 1).some(([sign]) => sign !== ' '));
  const shown = [];
  rows.forEach((row, i) => {
    if (near[i]) shown.push(row);
    else if (shown.length && shown[shown.length - 1] !== null) shown.push(null);
  });
  if (shown[shown.length - 1] === null) shown.pop();
  return shown;
}
