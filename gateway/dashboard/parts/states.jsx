// What stands where figures do not: shapes while they come, a next step where there are none, what is wrong and what to do.

import { useEffect, useState } from 'preact/hooks';
import { access, link, now, open } from '../rpc.js';
import { live, tryNow } from '../live.js';
import { moment } from '../time.js';
import { CopyLine } from './text.jsx';

/** Shapes in the size of what comes; nothing for the first 150 ms. */
export function Skeleton({ rows = 8, headline = false }) {
  const [shown, setShown] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setShown(true), 150);
    return () => clearTimeout(timer);
  }, []);
  if (!shown)
    return (
      <div aria-busy="true" class="sr">
        Loading
      </div>
    );
  return (
    <div aria-busy="true" aria-label="Loading" role="status">
      {headline && (
        <>
          <span class="bone" style={{ width: '80px' }} />
          <span class="bone big" />
          <span class="bone" style={{ width: '140px', marginBottom: '24px' }} />
        </>
      )}
      <div class="bones">
        {Array.from({ length: rows }, (_, i) => (
          <div key={i}>
            <span class="bone" style={{ width: '32px' }} />
            <span class="bone" style={{ width: `${60 + ((i * 37) % 60)}px` }} />
            <span class="bone" />
          </div>
        ))}
      </div>
    </div>
  );
}

/** Nothing is here yet: what would be, and the line that brings it. */
export function Empty({ title, children, line, guide, topic }) {
  return (
    <div class="told">
      <h2>{title}</h2>
      {children && <p>{children}</p>}
      {line && <CopyLine line={line} />}
      {guide && (
        <p class="cap">
          <a href={`/guide/${topic}`}>
            {guide}: Guide, {topic}
          </a>
        </p>
      )}
    </div>
  );
}

const MEANING = {
  forbidden: 'This token may look, and not do this.',
  other_tenant: 'This belongs to the whole installation, and this token is bound to one tenant.',
  ledger_failed: 'The ledger could not do it. Budgets count as before.',
  internal: 'It is the gateway’s fault, and it has logged why. Money is booked as before.',
  no_connection: 'Agents may be cut off as well. What was spent is in the ledger all the same.',
  unknown_method: 'This gateway’s version does not have it yet.',
  not_found: 'There is none, or it is not this token’s to see.',
};
const LINE = { ledger_failed: 'agentledger verify', internal: 'agentledger status', no_connection: 'agentledger status' };

/** What went wrong, what it means for the money, the line to run, code and id. */
/** What was not looked through, where an answer reads no further back. */
export function Since({ at }) {
  return at ? <p class="cap">Only what began since {moment(at, now())}: before it there is more than one answer reads.</p> : null;
}

export function Failure({ error, retry }) {
  return (
    <div class="told" role="alert">
      <h2>{error.code === 'unknown_method' ? 'Not known to this gateway.' : error.message}</h2>
      <p>{MEANING[error.code] || 'Nothing was changed by it.'}</p>
      {LINE[error.code] && <CopyLine line={LINE[error.code]} />}
      <p class="cap">
        <span class="mono">{error.code}</span> · <span class="mono">{error.id}</span>
        {retry && (
          <>
            {' '}
            ·{' '}
            <button type="button" class="state" data-key="r" onClick={retry}>
              <u>Try again</u>
            </button>
          </>
        )}
      </p>
    </div>
  );
}

/** No connection: since when, when it is tried again. */
export function Lost() {
  const [, tick] = useState(0);
  const is = link.value.state === 'down';
  useEffect(() => {
    if (!is) return undefined;
    const beat = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(beat);
  }, [is]);
  if (!is) return <div role="status" aria-live="polite" class="sr" />;
  const wait = Math.max(0, Math.ceil((link.value.next - Date.now()) / 1000));
  return (
    <div class="lost">
      <span role="status" aria-live="polite">
        <i class="glyph" aria-hidden="true">
          ▲
        </i>{' '}
        <b>No connection since {moment(link.value.since, now())}.</b>
      </span>
      <span>{link.value.next ? `Next try in ${wait} s` : 'Trying'}. Figures are as of then.</span>
      <button type="button" class="button" data-key="r" onClick={tryNow}>
        Try now <kbd aria-hidden="true">r</kbd>
      </button>
    </div>
  );
}

/** The token, before any figure; or over the page where it ended in use. */
export function TokenForm() {
  const { reason } = access.value;
  const [failed, setFailed] = useState('');
  const [busy, setBusy] = useState(false);
  const act = async (event) => {
    event.preventDefault();
    const field = event.target.elements.namedItem('token');
    setBusy(true);
    setFailed('');
    try {
      await open(field.value.trim());
    } catch (error) {
      setFailed(TOKEN_WORDS[error.code] || error.message);
      setBusy(false);
      field.select();
    }
  };
  const said = failed || (reason && (TOKEN_WORDS.again || reason));
  return (
    <form class="told" onSubmit={act}>
      <h2>{reason ? 'The token does not open any more.' : 'This gateway asks for a token.'}</h2>
      <p>
        One of <span class="mono">control.tokens</span> in its configuration. It is kept for this tab alone.
      </p>
      <div class="copyline">
        <label class="field">
          <span class="sr">Token</span>
          <input name="token" type="password" autocomplete="off" spellcheck={false} required autofocus />
        </label>
        <button class="button main" disabled={busy}>
          Open
        </button>
      </div>
      <p class="refused" role="alert">
        {said && (
          <>
            <i class="glyph stop" aria-hidden="true">
              ✕
            </i>{' '}
            {said}
          </>
        )}
      </p>
    </form>
  );
}

const TOKEN_WORDS = {
  wrong_token: 'That token is not known here. Ask who gave it to you.',
  expired_token: 'That token has ended. Ask who gave it to you.',
  no_token: 'A token is needed.',
  no_token_configured: 'No token is configured: name one in control.tokens.',
  too_many_attempts: 'Too many wrong tokens from here. Wait a minute.',
  no_connection: 'The gateway cannot be reached.',
};

/** Live, or how else figures come. */
export function LiveState({ paused }) {
  const state = link.value.state === 'down' ? 'lost' : paused.value ? 'paused' : live.value;
  const words = { live: 'Live', polls: 'Every 5 s', lost: 'Lost', paused: 'Paused', off: 'Connecting' };
  const act = () => {
    paused.value = !paused.value;
  };
  return (
    <button type="button" class="state" data-key=" " aria-pressed={paused.value} title="Pause or go on (Space)" onClick={act}>
      <span class={`dot ${state === 'live' ? '' : state === 'lost' ? 'warn' : 'hollow'}`} />
      {words[state]}
    </button>
  );
}
