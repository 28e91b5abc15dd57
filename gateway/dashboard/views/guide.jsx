// How do I …: the guide's pages, as the gateway serves them.

import { useEffect, useState } from 'preact/hooks';
import { route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { CopyLine } from '../parts/text.jsx';
import { Skeleton } from '../parts/states.jsx';
import { TOPICS } from '../topics.js';
import { blocks, spans } from '../markdown.js';

const NAMES = { mcp: 'MCP', cli: 'CLI', rest: 'REST' };

export function Guide() {
  const topic = route.value.rest || 'clients';
  const [page, setPage] = useState({ topic: '', text: '' });
  useEffect(() => {
    let gone = false;
    fetch(`/assets/guide/${encodeURIComponent(topic)}.md`, { credentials: 'omit' })
      .then((answer) => (answer.ok ? answer.text() : Promise.reject(new Error('not found'))))
      .then(
        (text) => !gone && setPage({ topic, text }),
        () => !gone && setPage({ topic, text: null }),
      );
    return () => {
      gone = true;
    };
  }, [topic]);
  return (
    <Page title="Guide" split chosen={Boolean(route.value.rest)}>
      <div class="list">
        <ul>
          {TOPICS.map((one) => (
            <li key={one}>
              <a class="item plain one" data-row aria-current={one === topic ? 'true' : undefined} href={to('guide', {}, one)}>
                <span>{NAMES[one] || one[0].toUpperCase() + one.slice(1).replace('-', ' ')}</span>
              </a>
            </li>
          ))}
        </ul>
      </div>
      <article class="detail guide">
        <p class="back">
          <a class="button" data-key="Escape" href="/guide">
            Back
          </a>
        </p>
        {page.topic !== topic ? (
          <Skeleton rows={12} />
        ) : page.text === null ? (
          <div class="told">
            <h2>This page is in the terminal.</h2>
            <CopyLine line={`agentledger guide ${topic}`} />
          </div>
        ) : (
          blocks(page.text).map((block, i) => <Block key={i} block={block} />)
        )}
      </article>
    </Page>
  );
}

function Block({ block }) {
  if (block.kind === 'code')
    return block.lines.length === 1 ? (
      <CopyLine line={block.lines[0]} />
    ) : (
      <pre class="code pre" tabIndex={0}>
        {block.lines.join('\n')}
      </pre>
    );
  if (block.kind === 'head')
    return block.level === 1 ? <h2 class="title">{inline(block.text)}</h2> : <h3 class="head2">{inline(block.text)}</h3>;
  if (block.kind === 'list')
    return (
      <ul class="dots">
        {block.items.map((item, i) => (
          <li key={i}>{inline(item)}</li>
        ))}
      </ul>
    );
  if (block.kind === 'table')
    return (
      <div class="scrolls" tabIndex={0} role="region" aria-label="Table">
        <table>
          <thead>
            <tr>
              {block.rows[0].map((cell, i) => (
                <th key={i} scope="col">
                  {inline(cell)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {block.rows.slice(1).map((row, i) => (
              <tr key={i}>
                {row.map((cell, j) => (
                  <td key={j}>{inline(cell)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    );
  return <p>{inline(block.text)}</p>;
}

const inline = (text) =>
  spans(text).map((span, i) =>
    span.kind === 'code' ? (
      <code key={i} class="mono">
        {span.text}
      </code>
    ) : span.kind === 'bold' ? (
      <b key={i}>{span.text}</b>
    ) : span.kind === 'italic' ? (
      <i key={i}>{span.text}</i>
    ) : span.kind === 'link' ? (
      <a key={i} href={span.href} {...(span.href.startsWith('/') ? {} : { target: '_blank', rel: 'noreferrer' })}>
        <u>{span.text}</u>
      </a>
    ) : (
      span.text
    ),
  );
