// Pieces that views are put together of: a headline with what stands beside it, small sums, a detail at the right.

/** The headline, once a view. `href`: the entries that it sums. */
export function Top({ caption, href, figure, beside, marks, wide = false }) {
  return (
    <div class={`top${wide ? ' wide' : ''}`}>
      <div>
        <div class="cap">{caption}</div>
        {href ? (
          <a class="headline plain" data-key="o" href={href}>
            {figure}
          </a>
        ) : (
          <div class="headline">{figure}</div>
        )}
      </div>
      {beside && <div class="beside">{beside}</div>}
      {marks && <div class="key">{marks}</div>}
    </div>
  );
}

/** A minor figure with its name above and a word below. */
export function Sum({ caption, note = '', children }) {
  return (
    <div>
      <div class="cap">{caption}</div>
      <div class="minor">{children}</div>
      <div class="cap">{note}</div>
    </div>
  );
}

/** What was chosen, at the right; a narrow window shows it in the list's place. */
export function Side({ title, close, label, children }) {
  return (
    <aside class="aside" aria-label={label}>
      <div class="aside-head">
        <h2 class="title">{title}</h2>
        <a class="button" data-key="Escape" href={close}>
          Esc
        </a>
      </div>
      {children}
    </aside>
  );
}

/** A part of a detail, with its heading. */
export function Section({ title, children }) {
  return (
    <section>
      <h3 class="cap">
        <b>{title}</b>
      </h3>
      {children}
    </section>
  );
}

/** Names and values; what is null is left out. */
export function Facts({ of }) {
  return (
    <dl class="facts">
      {of.filter(Boolean).map(([name, value], i) => [<dt key={`name ${i}`}>{name}</dt>, <dd key={`value ${i}`}>{value}</dd>])}
    </dl>
  );
}

/** A square and its word: what a colour means. */
export const Mark = ({ kind, children, class: more }) => (
  <span class={more}>
    <span class={`sq ${kind}`} />
    {children}
  </span>
);
