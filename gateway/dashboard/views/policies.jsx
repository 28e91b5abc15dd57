// What decides, what would a change do.

import { count, plural } from '../format.js';
import { call, change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { around, diff } from '../diff.js';
import { brief, moment } from '../time.js';
import { here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Name, Warn } from '../parts/text.jsx';
import { Failure, Skeleton } from '../parts/states.jsx';
import { Seg } from '../parts/controls.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';
import { Replay } from './replay.jsx';

export function Policies() {
  const { query } = route.value;
  const data = useCalls(
    [
      ['policy.list', {}],
      ['denial.list', { last: '24h' }],
    ],
    { on: ['rule.changes'], every: 15_000 },
  );
  const list = data.results[0] && data.results[0].value;
  const acted = new Map();
  for (const row of ((data.results[1] && data.results[1].value) || { denials: [] }).denials) {
    const name = (row.policy || '').split('@')[0];
    if (name) acted.set(name, (acted.get(name) || 0) + row.requests);
  }
  // A wide window shows the first one beside the list.
  const shown = query.name || (innerWidth > 1100 && list?.policies[0]?.name);
  return (
    <Page
      title="Policies"
      split
      chosen={Boolean(query.name)}
      tools={
        shown ? (
          <Seg
            name="show"
            label="Show"
            of={[
              ['', 'Change'],
              ['source', 'Source'],
              ['history', 'History'],
            ]}
          />
        ) : null
      }>
      <div class="list">
        <div class="inset list-head plainhead">
          <span class="cap">In this order</span>
          <span class="cap">Refused, 24 h</span>
        </div>
        {!data.ready ? (
          <div class="inset">
            <Skeleton rows={9} />
          </div>
        ) : !list ? (
          <div class="inset">
            <Failure error={data.results[0].error} retry={data.reload} />
          </div>
        ) : (
          <ul>
            {list.policies.map((one, i) => (
              <li key={one.name}>
                <a
                  class="item plain one"
                  data-row
                  aria-current={shown === one.name ? 'true' : undefined}
                  href={here({ name: one.name, version: null, show: null })}>
                  <span class="name">
                    <span class="faint ordinal">{i + 1}</span>{' '}
                    <b>
                      <Name of={one.name} most={24} />
                    </b>{' '}
                    <span class="soft">v{one.version}</span>
                    {one.mode !== 'enforce' && (
                      <>
                        {' '}
                        <span class="tag">{one.mode}</span>
                      </>
                    )}
                    {one.in_shadow && (
                      <>
                        {' '}
                        <span class="tag">in shadow</span>
                      </>
                    )}
                  </span>
                  <span>{acted.get(one.name) ? count(acted.get(one.name)) : <span class="none">0</span>}</span>
                </a>
              </li>
            ))}
          </ul>
        )}
        <p class="inset pad-y">
          <button type="button" class="state" data-key="n" onClick={() => put()}>
            <u>New policy</u> <kbd aria-hidden="true">n</kbd>
          </button>
        </p>
      </div>
      <div class="detail">
        {shown && <Detail key={shown} name={shown} />}
      </div>
    </Page>
  );
}

function Detail({ name }) {
  const { query } = route.value;
  const data = useCalls(
    [
      ['policy.get', { policy: name }],
      ['policy.history', { policy: name }],
    ],
    { on: ['rule.changes'], every: 30_000 },
  );
  const [got, history] = data.results;
  const kept = history && history.value ? history.value.versions : [];
  const inForce = history && history.value && history.value.in_force.hash;
  const draft = kept.find((one) => one.hash === query.version) || (kept[0] && kept[0].hash !== inForce ? kept[0] : null);
  const text = useCalls([draft ? ['policy.get', { policy: name, version: draft.hash }] : null], { every: 3_600_000 });
  if (!data.ready) return <Skeleton headline rows={12} />;
  if (!got.value && !kept.length) return <Failure error={got.error} retry={data.reload} />;
  const policy = got.value && got.value.policy;
  const other = text.results[0] && text.results[0].value;
  const source = query.show === 'source' || !draft;
  return (
    <>
      <div class="detail-head">
        <Heading name={name} draft={draft} policy={policy} />
        <div class="row-of">
          <button type="button" class="button" onClick={() => put(other ? other.text : got.value && got.value.text)}>
            Edit
          </button>
          {draft && draft.hash !== inForce && <Steps name={name} draft={draft} changes={history.value.changes} />}
          {!draft && kept.length > 0 && (
            <button type="button" class="button" onClick={() => back(name, history.value)}>
              Roll back
            </button>
          )}
        </div>
      </div>
      {draft && <Way draft={draft} />}
      {policy && policy.description && (
        <p class="soft">
          <Name of={policy.description} most={160} />
        </p>
      )}
      <div class="columns">
        <div>
          {source ? (
            <section class="block">
              <h3 class="head2">
                Source <small class="cap">{policy && <Name of={policy.origin} most={64} />}</small>
              </h3>
              <Source text={(draft && other ? other : got.value || { text: '' }).text} />
            </section>
          ) : (
            <section class="block">
              <h3 class="head2">What changes</h3>
              {other ? (
                got.value ? (
                  <Diff before={got.value.text} after={other.text} />
                ) : (
                  <Source text={other.text} />
                )
              ) : (
                <Skeleton rows={6} />
              )}
            </section>
          )}
          {kept.length > 0 && (
            <Versions kept={kept} chosen={draft} at={now()} stays={query.show === 'history' ? history.value.past : []} />
          )}
        </div>
        <div>{(draft || policy) && <Replay key={draft ? draft.hash : ''} name={name} draft={draft} />}</div>
      </div>
    </>
  );
}

function Heading({ name, draft, policy }) {
  const which = draft ? (
    <>
      v{draft.version}, {draft.state.replaceAll('_', ' ')}, by <Name of={draft.author} most={24} />
    </>
  ) : (
    policy && (
      <>
        v{policy.version}, {policy.source}
      </>
    )
  );
  return (
    <h2 class="title">
      <a class="button back" data-key="Escape" href={here({ name: null, version: null })}>
        Back
      </a>{' '}
      <Name of={name} most={48} /> <small class="soft">{which}</small>{' '}
      {draft && policy && <small class="cap">against v{policy.version}, in force</small>}
    </h2>
  );
}

/** The steps from a text to what decides. */
function Way({ draft }) {
  const shadowed = draft.state === 'in_shadow';
  return (
    <ol class="steps">
      <Step done>Text loads</Step>
      <Step done={draft.has_specs} none={!draft.has_specs}>
        {draft.has_specs ? 'Specs, run at activation' : 'No specs'}
      </Step>
      <Step at={draft.state === 'kept' || draft.state === 'earlier'}>Replay</Step>
      <Step done={draft.state === 'in_force'} at={shadowed}>
        Shadow{shadowed && draft.calls ? `, ${count(draft.calls)} calls` : ''}
      </Step>
      <Step at={draft.state === 'in_force'}>In force</Step>
    </ol>
  );
}

const Step = ({ done, at, none, children }) => (
  <li aria-current={at ? 'step' : undefined}>
    {at ? '→ ' : done ? '✓ ' : none ? '– ' : ''}
    {children}
  </li>
);

function Source({ text }) {
  return (
    <pre class="code" tabIndex={0}>
      {text
        .split('\n')
        .slice(0, 1000)
        .map((line, i) => (
          <span key={i} class="line">
            <i>{i + 1}</i>
            <i />
            <b> </b>
            <code>{line}</code>
          </span>
        ))}
    </pre>
  );
}

function Diff({ before, after }) {
  const rows = around(diff(before, after));
  const of = (sign) => rows.filter((row) => row && row[0] === sign).length;
  return (
    <>
      <p class="cap">
        {plural(of('+'), 'line')} in, {of('-')} out
      </p>
      <pre class="code" tabIndex={0}>
        {rows.map((row, i) =>
          row === null ? (
            <span key={i} class="line gap">
              …
            </span>
          ) : (
            <span key={i} class={`line ${row[0] === '+' ? 'in' : row[0] === '-' ? 'out' : ''}`}>
              <i>{row[2] || ''}</i>
              <i>{row[3] || ''}</i>
              <b>{row[0] === '-' ? '−' : row[0]}</b>
              <code>{row[1]}</code>
            </span>
          ),
        )}
      </pre>
    </>
  );
}

function Versions({ kept, chosen, at, stays }) {
  return (
    <section class="block">
      <h3 class="head2">Versions</h3>
      <table class="fold" aria-label="Versions">
        <tbody>
          {kept.map((one) => (
            <tr key={one.hash} data-row tabIndex={0} data-href={here({ version: one.hash })} aria-selected={chosen === one}>
              <td data-p="1">
                <a href={here({ version: one.hash })}>v{one.version}</a>
              </td>
              <td class="name" data-p="3">
                {one.state === 'rolled_back' || one.state === 'refused' ? (
                  <span class="warnx">
                    <Warn /> {one.state.replace('_', ' ')}: <Name of={one.why} most={60} />
                  </span>
                ) : (
                  <span class="soft">
                    {one.state.replaceAll('_', ' ')}
                    {one.note && (
                      <>
                        {' '}
                        · <Name of={one.note} most={48} />
                      </>
                    )}
                  </span>
                )}
              </td>
              <td class="num soft">{one.calls ? `${count(one.calls)} calls` : ''}</td>
              <td class="num soft">{one.denials ? `${count(one.denials)} refused` : ''}</td>
              <td class="num soft">
                <Name of={one.author} most={20} />
              </td>
              <td class="num soft" data-p="2">
                {brief(one.at, at)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {stays.length > 0 && (
        <table aria-label="Stays">
          <tbody>
            {stays.map((one) => (
              <tr key={`${one.hash}${one.from}`}>
                <td class="mono">{one.hash.slice(0, 8)}</td>
                <td class="soft">
                  in {one.in}, {one.end.replaceAll('_', ' ')}
                </td>
                <td class="num soft">{count(one.calls)} calls</td>
                <td class="num soft">{moment(one.from, at)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

const again = (name) => () => change('policy.rollback', { policy: name, note: 'undone in the dashboard' });

/** Steps to activation: a replay and a time in shadow are offered before it is in force at once. */
function Steps({ name, draft, changes }) {
  const both = { policy: name, version: draft.hash, if_version: changes };
  const shadow = () =>
    ask({
      title: `Shadow v${draft.version}, then activate`,
      verb: 'Shadow for 1 h',
      body: (
        <p>
          For an hour it runs beside what is in force: what it would say is counted and not done. Then it is in force by itself.
        </p>
      ),
      run: async (_, id) => {
        await change('policy.activate', { ...both, shadow_for: '1h', note: 'in the dashboard' }, id);
        say('It runs in shadow, and is in force in an hour.', () =>
          change('policy.shadow', { policy: name, end: true, note: 'undone in the dashboard' }),
        );
      },
    });
  const activate = () =>
    ask({
      title: `Activate v${draft.version} now`,
      verb: 'Activate',
      danger: true,
      body: (
        <p>
          It decides from the next call on, on all threads at once. It was not rehearsed in shadow here. Of 20 calls that fail it
          takes itself back.
        </p>
      ),
      run: async (_, id) => {
        await change('policy.activate', { ...both, note: 'in the dashboard' }, id);
        say(`v${draft.version} is in force.`, again(name));
      },
    });
  return (
    <>
      <button type="button" class="button" onClick={activate}>
        Activate now
      </button>
      <button type="button" class="button main" onClick={shadow}>
        Shadow for 1 h, then activate
      </button>
    </>
  );
}

const back = (name, history) =>
  ask({
    title: `Roll ${name} back`,
    verb: 'Roll back',
    danger: true,
    body: (
      <p>
        The version before decides again from the next call on
        {history.in_force.hash ? `, in place of ${history.in_force.hash.slice(0, 8)}` : ''}.
      </p>
    ),
    run: async (_, id) => {
      await change('policy.rollback', { policy: name, if_version: history.changes, note: 'in the dashboard' }, id);
      say('It is rolled back.');
    },
  });

function put(text = '') {
  ask({
    title: 'Put a version',
    verb: 'Keep this version',
    body: (
      <>
        <Field label="Text, Luau; its name stands in it" name="text" rows={14} value={text} required />
        <Field label="Why" name="note" />
        <p class="cap">
          Nothing is in force of it until it is activated. <a href="/guide/policies">Guide, policies</a>
        </p>
      </>
    ),
    run: async (form, id) => {
      const result = await change('policy.put', { text: form.text, note: form.note }, id);
      say(`A version of ${result.policy} is kept.`);
    },
  });
}
