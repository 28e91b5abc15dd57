// One call: what it is made of, and why it got its verdict.

import { count, latency, NONE, plural } from '../format.js';
import { now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment } from '../time.js';
import { here, to } from '../route.js';
import { cut, DETAIL } from '../text.js';
import { copy, Held, Id, Name, None, Stop, Usd } from '../parts/text.jsx';
import { Failure, Skeleton } from '../parts/states.jsx';
import { say } from '../parts/sheet.jsx';

export function CallDetail({ id }) {
  const data = useCalls([['ledger.explain', { id }], ['policy.explain', { id }]], { every: 300_000 });
  const close = here({ id: null });
  const at = now();
  const [made, verdict] = data.results;
  const entry = made && made.value && made.value.entry;
  const why = verdict && verdict.value;
  const known = entry || why;
  return (
    <aside class="aside" aria-label="Call">
      <div class="aside-head"><h2 class="title"><Name of={known ? known.model : ''} most={48} none="Call" /></h2><a class="button" data-key="Escape" href={close}>Esc</a></div>
      {!data.ready && <Skeleton rows={8} />}
      {data.ready && !known && <Failure error={verdict.error || made.error} retry={data.reload} />}
      {entry && <div><Usd of={entry.cost_usd} places={4} class="figure" estimated={entry.estimated ? entry.estimate_reason || 'estimated' : ''} /> <span class="soft">{moment(entry.at, at)}, took {latency(entry.duration_ms)}</span></div>}
      {known && <dl class="facts">
        <dt>Agent</dt><dd><Name of={known.agent} none={NONE} most={DETAIL} /></dd>
        <dt>Session</dt><dd>{known.session ? <a href={to('sessions', { id: known.session, tenant: known.tenant })}><Id of={known.session} most={24} /></a> : <None />}</dd>
        <dt>Tenant</dt><dd><Name of={known.tenant} most={DETAIL} /></dd>
        <dt>User</dt><dd><Name of={known.user} most={DETAIL} /></dd>
        {entry && <><dt>Task</dt><dd><Name of={entry.task} most={DETAIL} /></dd></>}
        <dt>Key</dt><dd>{known.key ? <a href={to('keys', { fp: known.key })}><Id of={known.key} /></a> : <None />}</dd>
        {entry && <><dt>Provider</dt><dd><Name of={entry.provider} /></dd><dt>Status</dt><dd>{entry.status || 'no answer'} · {entry.outcome.replaceAll('_', ' ')}</dd></>}
        {entry && Object.entries(entry.tags).map(([tag, value]) => <><dt key={tag}><Name of={tag} most={24} /></dt><dd><Name of={value} /></dd></>)}
        <dt>Id</dt><dd><button type="button" class="state" data-key="c" onClick={async () => say((await copy(id)) ? 'The id is copied.' : cut(id))}><Id of={id} most={16} /> <kbd aria-hidden="true">c</kbd></button></dd>
      </dl>}
      {entry && <section><h3 class="cap"><b>What it is made of</b></h3><Made lines={made.value.lines} entry={entry} /></section>}
      {why && <section><h3 class="cap"><b>Why</b></h3><Why why={why} /></section>}
    </aside>
  );
}

/** Kind x price of that day. */
export function Made({ lines, entry }) {
  return (
    <>
      <table class="made" aria-label="What it is made of"><tbody>
        {(lines || []).map((line) => <tr key={line.kind}><td class="num">{count(line.count)}</td><td class="soft">{line.kind.replaceAll('_', ' ')}</td><td class="num soft">× {line.price}</td><td class="num"><Usd of={line.usd} places={4} quiet /></td></tr>)}
        {!lines && Object.entries(entry.usage).map(([kind, n]) => <tr key={kind}><td class="num">{count(n)}</td><td class="soft">{kind.replaceAll('_', ' ')}</td><td class="num"><None /></td><td class="num"><None /></td></tr>)}
        <tr><td /><td /><td /><td class="num"><Usd of={entry.cost_usd} places={4} /></td></tr>
      </tbody></table>
      <p class="cap">{entry.price ? <>Price of <Name of={entry.price.id} />{entry.price.effective ? `, since ${entry.price.effective}` : ''}. </> : 'No price is noted: it was imported. '}<Held /> <Usd of={entry.held_usd} places={4} quiet /> was held.{entry.overage_reason && <> Overage <Usd of={entry.overage_usd} places={4} quiet />: {entry.overage_reason.replaceAll('_', ' ')}.</>}</p>
    </>
  );
}

function Why({ why }) {
  return (
    <>
      <p>{why.outcome.startsWith('denied') ? <><Stop /> <span class="refused">{why.outcome}</span></> : why.outcome}</p>
      {why.decided.map((line) => <p key={line}><Name of={line} most={DETAIL} /></p>)}
      {why.not_known && <p class="soft">{why.not_known}</p>}
      <ul class="whys">{why.policies.map((one, i) => <li key={i}><span class="mono">{one.policy}</span>{one.mode === 'shadow' && <> <span class="tag">shadow</span></>} <span class="soft">{one.requested.length ? one.requested.map((line) => cut(line, 160)).join('; ') : 'had nothing to say'}</span></li>)}</ul>
      {why.limits.length > 0 && <p class="cap">{plural(why.limits.length, 'limit')}: {why.limits.map((one) => <span key={`${one.account} ${one.window}`}><Name of={one.account} most={32} /> {one.window}, {one.spent} of {one.limit} {one.unit}{one.fits ? '' : ' ✕'}; </span>)}</p>}
    </>
  );
}
