// Sheets: they name what will be in figures before it is done. And the word afterwards, with Undo for ten seconds.

import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { change, link, requestId } from '../rpc.js';

/** The sheet that is open: `{title, body, verb, danger, fields, run}`. */
export const sheet = signal(null);
const said = signal(null);

/** Opens one. `run(form, again)` does it; `again` is the same request's id where it is sent once more after a lost answer. */
export const ask = (what) => {
  sheet.value = { ...what, request: requestId() };
};

/** Says what was done; `undo` is offered for ten seconds. */
export function say(text, undo) {
  said.value = { text, undo, until: Date.now() + 10_000 };
}

/** Calls a method that changes something, and says so. */
export async function act(method, params, words, { undo, id } = {}) {
  const result = await change(method, params, id);
  say(words, undo && undo(result));
  return result;
}

export function Sheet() {
  const now = sheet.value;
  return now && <Open key={now.request} what={now} />;
}

function Open({ what }) {
  const ref = useRef(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const down = link.value.state === 'down';
  useEffect(() => ref.current.showModal(), []);
  const close = () => {
    sheet.value = null;
  };
  const run = async (event) => {
    event.preventDefault();
    if (busy || down) return;
    setBusy(true);
    setError(null);
    try {
      await what.run(Object.fromEntries(new FormData(event.target)), what.request);
      if (sheet.value === what) close();
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  return (
    <dialog
      ref={ref}
      class="floats"
      aria-labelledby="sheet-title"
      onClose={close}
      onClick={(event) => event.target === ref.current && ref.current.close()}>
      <form class="sheet" onSubmit={run}>
        <h2 class="title" id="sheet-title">
          {what.title}
        </h2>
        {what.body}
        {error && (
          <p class="refused" role="alert">
            <i class="glyph stop" aria-hidden="true">
              ✕
            </i>{' '}
            {error.message} <span class="mono">{error.code}</span>
          </p>
        )}
        {down && <p class="warnx">There is no connection: nothing can be changed now.</p>}
        <div class="row-of">
          <button type="button" class="button" onClick={() => ref.current.close()}>
            Leave it
          </button>
          <button class={`button ${what.danger ? 'kill' : 'main'}`} aria-disabled={busy || down}>
            {what.verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}

export function Said() {
  const now = said.value;
  const [, tick] = useState(0);
  useEffect(() => {
    if (!now) return undefined;
    const timer = setTimeout(
      () => {
        if (said.value === now) said.value = null;
        tick((n) => n + 1);
      },
      Math.max(0, now.until - Date.now()),
    );
    return () => clearTimeout(timer);
  }, [now]);
  const undo = async () => {
    said.value = null;
    try {
      await now.undo();
      say('Undone.');
    } catch (error) {
      say(error.message);
    }
  };
  return (
    <div role="status" aria-live="polite">
      {now && (
        <div class="toast floats">
          <span>{now.text}</span>
          {now.undo ? (
            <button type="button" class="button" onClick={undo}>
              Undo
            </button>
          ) : (
            <button
              type="button"
              class="button"
              onClick={() => {
                said.value = null;
              }}>
              Close
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** A field with its name above it. */
export function Field({ label, name, value, type = 'text', before, options, onInput, required, placeholder, rows }) {
  const control = options ? (
    <select name={name} value={value} onChange={onInput}>
      {options.map(([key, text]) => (
        <option key={key} value={key} selected={key === value}>
          {text}
        </option>
      ))}
    </select>
  ) : rows ? (
    <textarea name={name} rows={rows} value={value} onInput={onInput} required={required} spellcheck={false} class="mono" />
  ) : (
    <input
      name={name}
      type={type}
      value={value}
      onInput={onInput}
      required={required}
      placeholder={placeholder}
      autocomplete="off"
      spellcheck={false}
      inputMode={before === '$' ? 'decimal' : undefined}
    />
  );
  return (
    <label class="labelled">
      {label}
      <span class={`field${rows ? ' tall' : ''}`}>
        {before && <span class="faint">{before}</span>}
        {control}
      </span>
    </label>
  );
}
