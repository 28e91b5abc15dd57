// Small pieces of text: names that others wrote, figures, marks, lines to copy.

import { useState } from 'preact/hooks';
import { amount, exact, money, NONE } from '../format.js';
import { cut, DETAIL, middle, ROW } from '../text.js';

/** A name that somebody gave: isolated from the text around it, its marks shown, cut; whole on hover. */
export function Name({ of, most = ROW, none = NONE, mono = false }) {
  if (of === undefined || of === null || of === '') return <span class="none">{none}</span>;
  const shown = cut(of, most);
  return (
    <bdi class={mono ? 'mono' : undefined} title={shown.endsWith('…') ? cut(of, DETAIL) : undefined}>
      {shown}
    </bdi>
  );
}

/** An id or a fingerprint: both ends tell it apart. */
export function Id({ of, most = 18 }) {
  if (!of) return <span class="none">{NONE}</span>;
  return (
    <bdi class="mono" title={cut(of, DETAIL)}>
      {middle(of, most)}
    </bdi>
  );
}

export const None = () => <span class="none">{NONE}</span>;

/**
 * Money. `cents`: those of a figure from $1 on are grey. `plus`: a change, which says when it is more. `estimated`: why.
 * `quiet`: beside another figure that is the loud one.
 */
export function Usd({ of, places = 2, cents = false, plus = false, quiet = false, estimated = '', class: more = '' }) {
  const parts = money(of, places);
  if (!parts) return <span class="none">{NONE}</span>;
  const isZero = /^\$0(\.0*)?$/.test(parts.whole + parts.cents);
  const grey = cents && parts.large && parts.cents;
  const sign = parts.sign || (plus && !isZero ? '+' : '');
  return (
    <span class={`usd${quiet ? ' quiet' : ''}${isZero && !more.includes('headline') ? ' zero' : ''} ${more}`} title={exact(of)}>
      {estimated && (
        <span role="img" title={estimated} aria-label="estimated">
          ≈{' '}
        </span>
      )}
      {sign}
      {parts.whole}
      {grey ? <span class="cents">{parts.cents}</span> : parts.cents}
    </span>
  );
}

/** An amount of a budget's unit. */
export function Amount({ of, unit, cents = false, quiet = false }) {
  if (unit === undefined || unit === 'usd') return <Usd of={of} cents={cents} quiet={quiet} />;
  const text = amount(of, unit);
  return <span class={text === NONE ? 'none' : `usd${quiet ? ' quiet' : ''}`}>{text}</span>;
}

export const Warn = ({ label = 'warning' }) => (
  <i class="glyph warn" role="img" aria-label={label}>
    ▲
  </i>
);
export const Stop = ({ label = 'refused' }) => (
  <i class="glyph stop" role="img" aria-label={label}>
    ✕
  </i>
);
export const Loop = ({ label = 'loop' }) => (
  <i class="glyph warn" role="img" aria-label={label}>
    ↻
  </i>
);
export const Held = () => <span class="sq held" role="img" aria-label="held" />;

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** A line for a terminal, with its button. */
export function CopyLine({ line }) {
  const [done, setDone] = useState('');
  const act = async () => setDone((await copy(line)) ? 'Copied' : 'Select it by hand');
  return (
    <div class="copyline">
      <code class="mono" tabIndex={0}>
        {line}
      </code>
      <button type="button" class="button" data-key="c" onClick={act}>
        {done || 'Copy'} <kbd aria-hidden="true">c</kbd>
      </button>
    </div>
  );
}
