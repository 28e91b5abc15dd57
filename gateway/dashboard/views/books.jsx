// Alerts, ledger and audit: what needs a person, are the books whole, who changed what.

import { useState } from 'preact/hooks';
import { bytes, count, NONE, plural } from '../format.js';
import { call, change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment, MONTHS } from '../time.js';
import { here, route, to } from '../route.js';
import { cut, DETAIL, middle } from '../text.js';
import { Page } from '../shell.jsx';
import { copy, Id, Loop, Name, None, Stop, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Pick, Seg } from '../parts/controls.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';

const SIGN = { loop_detected: <Loop />, budget_exceeded: <Stop /> };

export function Alerts() {
  const { query } = route.value;
  const state = query.state || '';
  const data = useCalls([['alert.list', { limit: 1000, ...(state && state !== 'loud' ? { state } : {}), ...(query.type ? { type: query.type } : {}) }]], { on: ['alert.feed'], every: 20_000 });
  const tools = <><Seg name="state" label="Which" of={[['', 'All'], ['failed', 'Not delivered'], ['dead', 'Given up'], ['silenced', 'Silenced']]} /><button type="button" class="button" data-key="n" onClick={() => silence({})}>Silence <kbd aria-hidden="true">n</kbd></button><button type="button" class="button" onClick={test}>Send a test</button></>;
  const result = data.results[0];
  return <Page title="Alerts" tools={tools}>{!data.ready ? <Skeleton headline rows={10} /> : result.value ? <AlertRows value={result.value} query={query} /> : <Failure error={result.error} retry={data.reload} />}</Page>;
}

function AlertRows({ value, query }) {
  const at = now();
  const rows = value.alerts;
  const open = rows.filter((one) => one.severity !== 'info').length;
  const columns = [
    { key: 'at', head: 'Time, UTC', sort: 'text', class: 'nowrap soft', phone: 4, cell: (one) => moment(one.at, at) },
    { key: 'message', head: 'What', phone: 1, class: 'widest', cell: (one) => <>{SIGN[one.type] || (one.severity === 'info' ? null : <Warn label={one.severity} />)} <Name of={one.message} most={110} />{one.folded > 0 && <> <span class="tag">and {count(one.folded)} like it</span></>}</> },
    { key: 'type', head: 'Kind', sort: 'text', phone: 3, cell: (one) => <a class="soft" href={here({ type: query.type === one.type ? null : one.type })}>{one.type.replaceAll('_', ' ')}</a> },
    { key: 'tenant', far: true, head: 'Tenant', cell: (one) => <Name of={one.tenant} most={24} /> },
    { key: 'sent', head: 'Delivered', phone: 2, cell: (one) => <Deliveries all={one.deliveries || []} /> },
    { key: 'act', head: '', spoken: 'Act', num: true, csv: false, cell: (one) => <span class="nowrap">{(one.deliveries || []).some((each) => each.state === 'dead') && <button type="button" class="state" onClick={() => retry(one)}><u>Retry</u></button>}<button type="button" class="state" onClick={() => silence(one)}><u>Silence</u></button></span> },
  ];
  const chosen = rows.find((one) => one.id === query.id);
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">
        <div class="top"><div><div class="cap">Want a look</div><div class="headline">{count(open)}</div></div><div class="beside"><p>{plural(rows.length, 'alert')} remembered</p><p class="soft">{value.silences.length ? `${plural(value.silences.length, 'silence')} in force` : 'Nothing is silenced.'}</p></div></div>
        {value.silences.length > 0 && <ul class="silences">{value.silences.map((one) => <li key={one.id} class="row-of"><span>Silenced until {moment(one.until, at)}: <Name of={one.type || 'every kind'} most={32} /> {one.about && <>about <Name of={one.about} most={32} /></>}</span><button type="button" class="state" onClick={() => change('alert.unsilence', { id: one.id, note: 'in the dashboard' }).then(() => say('It is told again.'), (error) => say(error.message))}><u>End it</u></button></li>)}</ul>}
        {rows.length ? <Table label="Alerts" columns={columns} rows={rows} id={(one) => one.id} selected={query.id} open={(one) => here({ id: one.id })} file="alerts" /> : <Empty title="No alert." line="agentledger alerts test slack" guide="What alerts there are" topic="alerts">What needs a person stands here, and how far its telling has come.</Empty>}
      </div>
      {chosen && <aside class="aside" aria-label="Alert"><div class="aside-head"><h2 class="title">{chosen.type.replaceAll('_', ' ')}</h2><a class="button" data-key="Escape" href={here({ id: null })}>Esc</a></div>
        <p><Name of={chosen.message} most={DETAIL} /></p>
        <dl class="facts"><dt>When</dt><dd>{moment(chosen.at, at)}</dd><dt>Severity</dt><dd>{chosen.severity}</dd><dt>About</dt><dd><Name of={chosen.about} most={DETAIL} /></dd><dt>Raised by</dt><dd><Name of={chosen.policy || 'the gateway'} /></dd>{Object.entries(chosen.details).map(([name, text]) => <><dt key={name}>{name.replaceAll('_', ' ')}</dt><dd><Name of={text} most={DETAIL} /></dd></>)}</dl>
        <section><h3 class="cap"><b>Delivered</b></h3>{(chosen.deliveries || []).map((one) => <p key={one.receiver}><Name of={one.receiver || 'silence'} />: {one.state}, {plural(one.attempts, 'attempt')}{one.error && <span class="soft">. <Name of={one.error} most={DETAIL} /></span>}{one.due && <span class="soft">, next {moment(one.due, at)}</span>}</p>)}</section>
      </aside>}
    </div>
  );
}

function Deliveries({ all }) {
  if (!all.length) return <None />;
  const bad = all.find((one) => one.state === 'dead') || all.find((one) => one.state === 'failed');
  if (bad) return <span class="warnx nowrap"><Warn /> {bad.state === 'dead' ? 'given up' : `tried ${count(bad.attempts)} times`}</span>;
  return <span class="soft">{all.every((one) => one.state === 'delivered') ? 'yes' : all[0].state}</span>;
}

const silence = (one) => ask({ title: 'Silence alerts', verb: 'Silence', body: <><div class="pair"><Field label="Kind, or a pattern: budget_*" name="type" value={one.type || ''} /><Field label="About" name="about" value={one.about || ''} /><Field label="For how long" name="until" value="2h" options={[['1h', '1 hour'], ['2h', '2 hours'], ['24h', 'a day'], ['7d', 'a week']]} /><Field label="Why, for the audit" name="note" /></div><p class="cap">They are noted, and not delivered.</p></>,
  run: async (form, id) => {
    const result = await change('alert.silence', { type: form.type, about: form.about, until: form.until, note: form.note, ...(one.tenant ? { tenant: one.tenant } : {}) }, id);
    say('Silenced.', () => change('alert.unsilence', { id: result.silence.id, note: 'undone in the dashboard' }));
  } });

const test = () => ask({ title: 'Send a test alert', verb: 'Send it', body: <Field label="Receiver: slack, webhook1, ops-hook" name="receiver" required />,
  run: async (form, id) => {
    await change('alert.test', { receiver: form.receiver }, id);
    say('It has arrived.');
  } });

const retry = (one) => change('alert.retry', { id: one.id }).then((result) => say(`${plural(result.retried, 'delivery', 'deliveries')} tried again.`), (error) => say(error.message));

export function Ledger() {
  const { query } = route.value;
  const data = useCalls([['system.status'], ['ledger.months'], ['system.backups'], ['ledger.journal', { limit: 40 }]], { on: ['ledger.tail'], every: 15_000 });
  const show = query.show || '';
  return <Page title="Ledger" tools={<Seg name="show" label="Show" of={[['', 'Chain'], ['journal', 'Journal'], ['backups', 'Backups']]} />}>{data.ready ? <Chain data={data} show={show} /> : <Skeleton headline rows={10} />}</Page>;
}

function Chain({ data, show }) {
  const [status, months, backups, journal] = data.results.map((result) => result.value);
  const [verified, setVerified] = useState(null);
  const at = now();
  if (!status) return <Failure error={data.results[0].error} retry={data.reload} />;
  if (!status.head) return <Empty title="The books belong to the whole installation." line="agentledger verify" guide="How the ledger is checked" topic="operations">This token is bound to one tenant.</Empty>;
  const [sequence, hash] = status.head.split(':');
  const verify = async () => {
    setVerified({ running: true, began: now() });
    try {
      setVerified({ ...(await call('ledger.verify', {})), at: now() });
    } catch (error) {
      setVerified({ error });
    }
  };
  return (
    <>
      <div class="detail-head block"><div><div class="cap">Head of the chain</div><div class="hash mono" title={hash}>{hash.match(/.{4}/g).slice(0, 6).join(' ')} <span class="faint">… {hash.slice(-8, -4)} {hash.slice(-4)}</span></div>
        <p class="cap">{count(Number(sequence))} events · {plural(status.holds_open, 'open hold')} · {status.storage ? `${status.storage.durability}: ${status.storage.durability === 'strict' ? 'on disk before it is answered' : 'on disk within 5 ms'} · ${bytes(status.storage.bytes)}` : ''}</p></div>
        <div class="row-of"><button type="button" class="button" data-key="c" onClick={async () => say((await copy(status.head)) ? 'The head is copied.' : status.head)}>Copy head <kbd aria-hidden="true">c</kbd></button><button type="button" class="button" onClick={backUp}>Back up now</button><button type="button" class="button" onClick={verify} aria-disabled={Boolean(verified && verified.running)}>Verify</button></div></div>
      {verified && <Verified verified={verified} retry={verify} />}
      <div class="two ledger-two">
        {show !== 'journal' && show !== 'backups' && <section class="block"><h2 class="head">Months</h2>{months ? <Months rows={months.months} at={at} /> : <p class="soft pad-y">{verified && verified.months ? `Months: ${verified.months.join(', ')}` : <>Events, sums and heads by month: {NONE}</>}</p>}</section>}
        {show !== 'journal' && <section class="block"><h2 class="head">Backups <small>{backups ? `every ${backups.every}, ${count(backups.keep)} kept` : ''}</small></h2>{backups ? <Backups rows={backups.backups} at={at} /> : <p class="soft pad-y">What was written, and when: {NONE}</p>}</section>}
      </div>
      {show !== 'backups' && <section class="block"><h2 class="head">Journal <small>latest first</small></h2>{journal ? <Journal rows={journal.events} at={at} /> : <p class="soft pad-y">Events as they come: {NONE}. Entries stand in <a href="/calls">Calls</a>, changes in <a href="/audit">Audit</a>.</p>}</section>}
    </>
  );
}

function Verified({ verified, retry }) {
  if (verified.error) return <Failure error={verified.error} retry={retry} />;
  if (verified.running) return <div class="note block" role="status"><p><b>Verifying</b> every event, started {moment(verified.began, now())}</p><progress aria-label="Verifying" /><p class="soft">No damage so far. A break would name its event, its month and what still stands before it.</p></div>;
  return <div class={`note block${verified.ok ? '' : ' warn'}`} role="status"><p>{verified.ok ? <><b>The chain is whole.</b> {count(verified.events)} events, {count(verified.entries)} entries, {plural(verified.months.length, 'month')}; checked {moment(verified.at, now())}.</> : <b class="warnx"><Warn /> The chain is damaged.</b>}</p>{verified.damage.map((line) => <p key={line}><Name of={line} most={DETAIL} /></p>)}<p class="cap">Up to <Id of={verified.head} most={32} /></p></div>;
}

const monthWords = (month) => `${MONTHS[Number(month.slice(5)) - 1]} ${month.slice(0, 4)}`;

function Months({ rows, at }) {
  const columns = [
    { key: 'month', head: 'Month, UTC', phone: 1, class: 'nowrap', cell: (row) => <b>{monthWords(row.month)}</b> },
    { key: 'state', head: '', spoken: 'State', csv: false, phone: 3, cell: (row) => <span class="soft">{row.state}</span> },
    { key: 'events', head: 'Events', num: true, cell: (row) => count(row.events) }, { key: 'entries', head: 'Entries', num: true, cell: (row) => count(row.entries) },
    { key: 'spent_usd', head: 'Spent', num: true, phone: 2, cell: (row) => <a href={to('calls', { from: `${row.month}-01T00:00:00.000Z` })}><Usd of={row.spent_usd} cents /></a> },
    { key: 'head', far: true, head: 'Head', cell: (row) => <span class="mono soft" title={row.head}>{middle(row.head.split(':').pop(), 10)}</span> },
    { key: 'closed', far: true, head: 'Closed', class: 'nowrap soft', cell: (row) => (row.closed ? moment(row.closed, at) : 'now') },
    { key: 'verified', head: 'Verified', num: true, class: 'soft', phone: 4, cell: (row) => (row.verified ? `✓ ${moment(row.verified, at)}` : <None />) },
  ];
  return <Table label="Months" name="months" columns={columns} rows={rows} id={(row) => row.month} />;
}

function Backups({ rows, at }) {
  return <table aria-label="Backups"><thead><tr><th scope="col">Taken, UTC</th><th scope="col" class="num">Size</th></tr></thead><tbody>{rows.map((row) => <tr key={row.at}><td>{row.state === 'failed' ? <span class="warnx"><Warn /> {moment(row.at, at)} <Name of={row.why} most={48} /></span> : <>✓ {moment(row.at, at)} <span class="soft"><Name of={row.why} most={32} none="" /></span></>}</td><td class="num soft">{row.bytes ? bytes(row.bytes) : <None />}</td></tr>)}</tbody></table>;
}

function Journal({ rows, at }) {
  const columns = [
    { key: 'at', head: 'Time, UTC', class: 'nowrap soft', phone: 4, cell: (row) => moment(row.at, at) }, { key: 'kind', head: 'Event', phone: 3, cell: (row) => row.kind.replaceAll('_', ' ') },
    { key: 'who', head: 'Who', phone: 1, csv: false, cell: (row) => <><Name of={row.agent} most={28} none="no agent" />{row.session && <> · <Name of={row.session} most={28} /></>}</> },
    { key: 'what', head: 'What', cell: (row) => <span class="soft"><Name of={row.what} most={40} /></span> },
    { key: 'usd', head: 'Money', num: true, phone: 2, cell: (row) => <Usd of={row.usd} places={4} plus={row.kind === 'top_up'} estimated={row.estimated ? 'estimated' : ''} /> },
    { key: 'hash', far: true, head: 'Hash', num: true, cell: (row) => <span class="mono soft" title={row.hash}>{middle(row.hash, 10)}</span> },
  ];
  return <Table label="Journal" name="journal" columns={columns} rows={rows} id={(row) => row.sequence} paged={false} file="journal" />;
}

const backUp = () => ask({ title: 'Back up now', verb: 'Write the archive', body: <><Field label="Where, on the gateway’s machine; the file must not be there" name="path" value={`/var/backups/agentledger-${new Date(now()).toISOString().slice(0, 10)}.tar.zst`} required /><p class="cap">It holds the secret by which keys are named: keep it as you keep the ledger.</p></>,
  run: async (form, id) => {
    const result = await change('system.backup', { path: form.path.trim() }, id);
    say(`${bytes(result.bytes)} are written, ${count(result.events)} events.`);
  } });

export function Audit() {
  const { query } = route.value;
  const data = useCalls([['audit.list', { limit: 200, ...(query.action ? { action: query.action } : {}), ...(query.author ? { author: query.author } : {}), ...(query.before ? { before: Number(query.before) } : {}) }]], { on: ['rule.changes'], every: 30_000 });
  const tools = <Pick name="action" label="What" of={[['', 'all'], ['budget.', 'budgets'], ['rule.', 'rules'], ['policy.', 'policies'], ['session.', 'sessions'], ['key.', 'keys'], ['price.', 'prices'], ['alert.', 'alerts'], ['ledger.', 'ledger']]} />;
  const result = data.results[0];
  return <Page title="Audit" tools={tools}>{!data.ready ? <Skeleton rows={14} /> : result.value ? <Changes value={result.value} query={query} /> : <Failure error={result.error} retry={data.reload} />}</Page>;
}

function Changes({ value, query }) {
  const at = now();
  const columns = [
    { key: 'at', head: 'Time, UTC', class: 'nowrap soft', phone: 4, cell: (one) => moment(one.at, at) },
    { key: 'author', head: 'Who', phone: 1, cell: (one) => <a href={here({ author: query.author === one.author ? null : one.author })}><Name of={one.author} most={32} /></a> },
    { key: 'peer', far: true, head: 'From', cell: (one) => <span class="soft"><Name of={one.peer} most={28} /></span> },
    { key: 'action', head: 'Did', phone: 2, cell: (one) => <span class="mono">{one.action}</span> },
    { key: 'subject', head: 'To what', phone: 3, cell: (one) => <Name of={one.subject} most={48} /> },
    { key: 'note', head: 'Why', cell: (one) => <span class="soft"><Name of={one.note} most={64} /></span> },
  ];
  const chosen = value.changes.find((one) => one.id === query.id);
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">{value.changes.length ? <Table label="Changes" columns={columns} rows={value.changes} id={(one) => one.id} selected={query.id} open={(one) => here({ id: one.id })} file="audit" paged={false}
        footer={<>{query.before && <a href={here({ before: null })} data-key="]">Latest</a>}{value.next && <a href={here({ before: value.next })} data-key="[">Earlier <kbd aria-hidden="true">[</kbd></a>}</>} /> : <Empty title="Nothing was changed." line="agentledger audit" guide="What the audit keeps" topic="admin">Every change stands here with who made it, from where and why.</Empty>}</div>
      {chosen && <aside class="aside" aria-label="Change"><div class="aside-head"><h2 class="title">{chosen.action}</h2><a class="button" data-key="Escape" href={here({ id: null })}>Esc</a></div>
        <dl class="facts"><dt>When</dt><dd>{moment(chosen.at, at)}</dd><dt>Who</dt><dd><Name of={chosen.author} most={DETAIL} /></dd><dt>From</dt><dd><Name of={chosen.peer} most={DETAIL} /></dd><dt>To what</dt><dd><Name of={chosen.subject} most={DETAIL} /></dd><dt>Event</dt><dd>{count(chosen.sequence)}</dd></dl>
        {chosen.note && <p>“<Name of={chosen.note} most={DETAIL} />”</p>}
        <section><h3 class="cap"><b>Before</b></h3><Json of={chosen.before} /></section><section><h3 class="cap"><b>After</b></h3><Json of={chosen.after} /></section></aside>}
    </div>
  );
}

const Json = ({ of }) => (of === null || of === undefined ? <p class="soft">nothing</p> : <pre class="code bare pre" tabIndex={0}>{cut(JSON.stringify(of, null, 1).replaceAll('\n', ' '), 2000)}</pre>);
