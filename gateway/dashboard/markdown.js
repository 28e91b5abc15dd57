// As much of Markdown as the guide has, as plain values: no markup is ever made of text. Pure.

/** Blocks: `head`, `code`, `list`, `table`, `text`. */
export function blocks(text) {
  const lines = text.split('\n');
  const found = [];
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    if (/^```/.test(line)) {
      const code = [];
      for (i += 1; i < lines.length && !/^```/.test(lines[i]); i += 1) code.push(lines[i]);
      i += 1;
      found.push({ kind: 'code', lines: code });
    } else if (/^#{1,4} /.test(line)) {
      found.push({ kind: 'head', level: line.indexOf(' '), text: line.replace(/^#+ /, '') });
      i += 1;
    } else if (/^\|/.test(line)) {
      const rows = [];
      for (; i < lines.length && /^\|/.test(lines[i]); i += 1) {
        if (!/^\|[\s:|-]+\|?$/.test(lines[i])) rows.push(cells(lines[i]));
      }
      found.push({ kind: 'table', rows });
    } else if (/^[-*] /.test(line)) {
      const items = [];
      for (; i < lines.length && /^([-*] |\s+\S)/.test(lines[i]); i += 1) {
        if (/^[-*] /.test(lines[i])) items.push(lines[i].slice(2));
        else items[items.length - 1] += ` ${lines[i].trim()}`;
      }
      found.push({ kind: 'list', items });
    } else if (line.trim() === '') {
      i += 1;
    } else {
      const some = [];
      for (; i < lines.length && lines[i].trim() !== '' && !/^(```|#{1,4} |\||[-*] )/.test(lines[i]); i += 1)
        some.push(lines[i].trim());
      found.push({ kind: 'text', text: some.join(' ') });
    }
  }
  return found;
}

/** Cells of a row; `\|` is no border. */
function cells(line) {
  return line
    .replace(/^\||\|\s*$/g, '')
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));
}

/** Code, bold, italics, links and text. A link leads to a page of the guide or to the open net, and nowhere else. */
export function spans(text) {
  const found = [];
  const pattern = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\(([^)\s]+)\)/g;
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > at) found.push({ kind: 'text', text: text.slice(at, match.index) });
    at = match.index + match[0].length;
    const [, code, bold, italic, words, href] = match;
    if (code !== undefined) found.push({ kind: 'code', text: code });
    else if (bold !== undefined) found.push({ kind: 'bold', text: bold });
    else if (italic !== undefined) found.push({ kind: 'italic', text: italic });
    else found.push(linkTo(words, href));
  }
  if (at < text.length) found.push({ kind: 'text', text: text.slice(at) });
  return found;
}

function linkTo(text, href) {
  const page = /^(?:\.\/)?([\w-]+)\.md(?:#.*)?$/.exec(href);
  if (page) return { kind: 'link', text, href: `/guide/${page[1]}` };
  return /^https:\/\//.test(href) ? { kind: 'link', text, href } : { kind: 'text', text };
}
