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
import { Facts, Section, Side } from '../parts/layout.jsx';

export function CallDetail({ id }) {
  const data = useCalls(
    [
      ['ledger.explain', { id }],
      ['policy.explain', { id }],
    ],
    { every: 300_000 },
  );
  const at = now();
  const [made, verdict] = data.results;
  const entry = made && made.value && made.value.entry;
  const why = verdict && verdict.value;
  const known = entry || why;
  return (
    <Side label="Call" title={<Name of={known ? known.model : ''} most={48} none="Call" />} close={here({ id: null })}>
      {!data.ready && <Skeleton rows={8} />}
      {data.ready && !known && <Failure error={verdict.error || made.error} retry={data.reload} />}
      {entry && (
        <div>
          <Usd
            of={entry.cost_usd}
            places={4}
            class="figure"
            estimated={entry.estimated ? entry.estimate_reason || 'estimated' : ''}
          />{' '}
          <span class="soft">
            {moment(entry.at, at)}, took {latency(entry.duration_ms)}
          </span>
        </div>
      )}
      {known && <Facts of={facts(known, entry, id)} />}
      {entry && (
        <Section title="What it is made of">
          <Made lines={made.value.lines} entry={entry} />
        </Section>
      )}
      {why && (
        <Section title="Why">
          <Why why={why} />
        </Section>
      )}
    </Side>
  );
}

/** What is known of it: an entry says more than a request that was decided. */
function facts(known, entry, id) {
  const copyId = async () => say((await copy(id)) ? 'The id is copied.' : cut(id));
  return [
    ['Agent', <Name of={known.agent} none={NONE} most={DETAIL} />],
    [
      'Session',
      known.session ? (
        <a href={to('sessions', { id: known.session, tenant: known.tenant })}>
          <Id of={known.session} most={24} />
        </a>
      ) : (
        <None />
      ),
    ],
    ['Tenant', <Name of={known.tenant} most={DETAIL} />],
    ['User', <Name of={known.user} most={DETAIL} />],
    entry && ['Task', <Name of={entry.task} most={DETAIL} />],
    [
      'Key',
      known.key ? (
        <a href={to('keys', { fp: known.key })}>
          <Id of={known.key} />
        </a>
      ) : (
        <None />
      ),
    ],
    entry && ['Provider', <Name of={entry.provider} />],
    entry && ['Status', `${entry.status || 'no answer'} · ${entry.outcome.replaceAll('_', ' ')}`],
    ...(entry ? Object.entries(entry.tags).map(([tag, value]) => [<Name of={tag} most={24} />, <Name of={value} />]) : []),
    [
      'Id',
      <button type="button" class="state" data-key="c" onClick={copyId}>
        <Id of={id} most={16} /> <kbd aria-hidden="true">c</kbd>
      </button>,
    ],
  ];
}

/** What a line without units says. */
const REST = {
  estimated: 'estimated',
  imported: 'as it was imported',
  plugin: 'as a plugin priced it',
  other_prices: 'at prices no longer in force',
  rounding: 'rounding',
};

function lineWords(line) {
  const words = (line.count === null && REST[line.kind]) || line.kind.replaceAll('_', ' ');
  return line.why ? `${words}: ${line.why.replaceAll('_', ' ')}` : words;
}

/** Kind x price of that day. */
export function Made({ lines, entry }) {
  return (
    <>
      <table class="made" aria-label="What it is made of">
        <tbody>
          {(lines || []).map((line) => (
            <tr key={`${line.model ?? ''} ${line.kind}`}>
              <td class="num">{line.count === null ? '' : count(line.count)}</td>
              <td class="soft">
                {lineWords(line)}
                {line.model && (
                  <>
                    {' '}
                    · <Name of={line.model} most={28} />
                  </>
                )}
              </td>
              <td class="num soft">{line.price ? `× ${line.price}` : ''}</td>
              <td class="num">{line.usd === null ? <None /> : <Usd of={line.usd} places={4} quiet />}</td>
            </tr>
          ))}
          {!lines &&
            Object.entries(entry.usage).map(([kind, n]) => (
              <tr key={kind}>
                <td class="num">{count(n)}</td>
                <td class="soft">{kind.replaceAll('_', ' ')}</td>
                <td class="num">
                  <None />
                </td>
                <td class="num">
                  <None />
                </td>
              </tr>
            ))}
          <tr>
            <td />
            <td />
            <td />
            <td class="num">
              <Usd of={entry.cost_usd} places={4} />
            </td>
          </tr>
        </tbody>
      </table>
      <p class="cap">
        {entry.price ? (
          <>
            Price of <Name of={entry.price.id} />
            {entry.price.effective ? `, since ${entry.price.effective}` : ''}.{' '}
          </>
        ) : (
          'No price is noted: it was imported. '
        )}
        <Held /> <Usd of={entry.held_usd} places={4} quiet /> was held.
        {entry.overage_reason && (
          <>
            {' '}
            Overage <Usd of={entry.overage_usd} places={4} quiet />: {entry.overage_reason.replaceAll('_', ' ')}.
          </>
        )}
      </p>
    </>
  );
}

function Why({ why }) {
  return (
    <>
      <p>
        {why.outcome.startsWith('denied') ? (
          <>
            <Stop /> <span class="refused">{why.outcome}</span>
          </>
        ) : (
          why.outcome
        )}
      </p>
      {why.decided.map((line) => (
        <p key={line}>
          <Name of={line} most={DETAIL} />
        </p>
      ))}
      {why.not_known && <p class="soft">{why.not_known}</p>}
      <ul class="whys">
        {why.policies.map((one, i) => (
          <li key={i}>
            <span class="mono">{one.policy}</span>
            {one.mode === 'shadow' && (
              <>
                {' '}
                <span class="tag">shadow</span>
              </>
            )}{' '}
            <span class="soft">
              {one.requested.length ? one.requested.map((line) => cut(line, 160)).join('; ') : 'had nothing to say'}
            </span>
          </li>
        ))}
      </ul>
      {why.limits.length > 0 && (
        <p class="cap">
          {plural(why.limits.length, 'limit')}:{' '}
          {why.limits.map((one) => (
            <span key={`${one.account} ${one.window}`}>
              <Name of={one.account} most={32} /> {one.window}, {one.spent} of {one.limit} {one.unit}
              {one.fits ? '' : ' ✕'};{' '}
            </span>
          ))}
        </p>
      )}
    </>
  );
}
