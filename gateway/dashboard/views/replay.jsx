// The past decided again with another version of a policy, and what would have been different.

import { useEffect, useState } from 'preact/hooks';
import { count, percent, usd } from '../format.js';
import { call, now } from '../rpc.js';
import { brief } from '../time.js';
import { to } from '../route.js';
import { Name, None, Stop, Usd } from '../parts/text.jsx';
import { Failure } from '../parts/states.jsx';

/** Decides the past again, beside the gateway's work, and says what would be different. */
export function Replay({ name, draft }) {
  const [job, setJob] = useState(null);
  const [error, setError] = useState(null);
  const begin = async () => {
    setError(null);
    try {
      setJob(
        await call('policy.replay', {
          last: '7d',
          mode: 'simulated',
          candidate: {
            name: `${name} v${draft ? draft.version : ''}`,
            policies: [{ name, ...(draft ? { version: draft.hash } : {}) }],
          },
        }),
      );
    } catch (failed) {
      setError(failed);
    }
  };
  useEffect(() => {
    if (!job || job.state !== 'running') return undefined;
    const timer = setTimeout(() => call('policy.replay', { job: job.job }).then(setJob, setError), 1000);
    return () => clearTimeout(timer);
  }, [job]);
  const result = job && job.result && job.result.simulated;
  return (
    <section class="block">
      <h3 class="head2">
        Replay {result && <small class="cap">{count(job.result.decisions)} calls of 7 days, simulated</small>}
      </h3>
      {error && <Failure error={error} retry={begin} />}
      {!job && !error && (
        <>
          <p class="soft pad-y">
            Decides the calls of the last 7 days again, with this version, on a ledger of its own. Nothing is changed by it.
          </p>
          <button type="button" class="button" onClick={begin}>
            Replay 7 days
          </button>
        </>
      )}
      {job && job.state === 'running' && (
        <p class="soft pad-y" role="status">
          Reading: {count(job.decisions)} decisions{job.events_in_all ? ` · ${percent(job.events / job.events_in_all, 0)}` : ''}
        </p>
      )}
      {job && job.state === 'failed' && (
        <p class="refused">
          <Stop label="failed" /> {job.error}
        </p>
      )}
      {result && <Result result={result} whole={job.result} />}
    </section>
  );
}

function Result({ result, whole }) {
  const { totals } = result;
  const kinds = [
    [
      'Let through',
      <>
        <Stop /> <span class="refused">Refused</span>
      </>,
      totals.denied,
    ],
    ['Refused', 'Let through', totals.newly_allowed],
    ['Let through', 'Moved to another model', totals.routed],
    ['Let through', 'Shortened', totals.clamped],
    ['Let through', 'Cut', totals.cut],
    ['Let through', 'Held back', totals.delayed],
  ].filter(([, , n]) => n > 0);
  return (
    <>
      <div class="replay-sums">
        <div>
          <div class="cap">Decided differently</div>
          <div class="figure">{totals.different === undefined ? <None /> : count(totals.different)}</div>
        </div>
        <div>
          <div class="cap">Cost of the 7 days</div>
          <div class="figure">
            <Usd of={totals.simulated_usd} cents />
          </div>
          <div class="cap">was {usd(totals.cost_usd)}</div>
        </div>
        <div>
          <div class="cap">People hit</div>
          <div class="figure">{count(result.people_hit)}</div>
        </div>
      </div>
      {kinds.length > 0 ? <Kinds kinds={kinds} /> : <p class="soft pad-y">Every call would have been decided as it was.</p>}
      {result.by.agent && result.by.agent.length > 0 && <ByAgent rows={result.by.agent} />}
      {result.examples.length > 0 && <Dearest rows={result.examples} />}
      {whole.undecidable.map((one) => (
        <p class="cap" key={one.why}>
          {count(one.count)} calls could not be decided: <Name of={one.why} most={120} />
        </p>
      ))}
    </>
  );
}

function Kinds({ kinds }) {
  const most = Math.max(1, ...kinds.map(([, , n]) => n));
  return (
    <table aria-label="What would be different">
      <thead>
        <tr>
          <th scope="col">Was</th>
          <th scope="col">Would be</th>
          <th scope="col">
            <span class="sr">Share</span>
          </th>
          <th scope="col" class="num">
            Calls
          </th>
        </tr>
      </thead>
      <tbody>
        {kinds.map(([was, would, n], i) => (
          <tr key={i}>
            <td class="soft">{was}</td>
            <td>{would}</td>
            <td class="barred">
              <i class="cell-bar ink" style={{ width: `${(n / most) * 100}%` }} />
            </td>
            <td class="num">
              <b>{count(n)}</b>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function ByAgent({ rows }) {
  return (
    <>
      <h3 class="head2 gap-y">By agent</h3>
      <table aria-label="By agent">
        <thead>
          <tr>
            <th scope="col">Agent</th>
            <th scope="col" class="num">
              Refused
            </th>
            <th scope="col" class="num">
              Moved
            </th>
            <th scope="col" class="num">
              Saved
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, 8).map((row) => (
            <tr key={row.name}>
              <td class="name">
                <a href={to('calls', { agent: row.name, last: '7d' })}>
                  <Name of={row.name} most={28} none="no agent" />
                </a>
              </td>
              <td class="num">
                {row.denied ? (
                  <span class="refused">
                    <Stop /> {count(row.denied)}
                  </span>
                ) : (
                  <None />
                )}
              </td>
              <td class="num">{row.routed ? count(row.routed) : <None />}</td>
              <td class="num">
                <Usd of={row.saved_usd} cents />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function Dearest({ rows }) {
  return (
    <>
      <h3 class="head2 gap-y">Dearest</h3>
      <table aria-label="Dearest">
        <tbody>
          {rows.slice(0, 5).map((one) => (
            <tr key={one.id}>
              <td class="soft nowrap">{brief(one.at, now())}</td>
              <td class="name">
                <a href={to('calls', { id: one.id, last: '7d' })}>
                  <Name of={one.agent} most={20} none="no agent" />
                </a>
              </td>
              <td class="num">
                <Usd of={one.cost_usd} places={4} />
              </td>
              <td class="name soft">
                <Name of={one.outcome} most={32} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
