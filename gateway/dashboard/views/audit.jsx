// Who changed what, when, from where and why.

import { count } from '../format.js';
import { change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment } from '../time.js';
import { here, route } from '../route.js';
import { cut, DETAIL } from '../text.js';
import { Page } from '../shell.jsx';
import { Name } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Pick } from '../parts/controls.jsx';
import { Facts, Section, Side } from '../parts/layout.jsx';

export function Audit() {
  const { query } = route.value;
  const data = useCalls(
    [
      [
        'audit.list',
        {
          limit: 200,
          ...(query.action ? { action: query.action } : {}),
          ...(query.author ? { author: query.author } : {}),
          ...(query.before ? { before: Number(query.before) } : {}),
        },
      ],
    ],
    { on: ['rule.changes'], every: 30_000 },
  );
  const tools = (
    <Pick
      name="action"
      label="What"
      of={[
        ['', 'all'],
        ['budget.', 'budgets'],
        ['rule.', 'rules'],
        ['policy.', 'policies'],
        ['session.', 'sessions'],
        ['key.', 'keys'],
        ['price.', 'prices'],
        ['alert.', 'alerts'],
        ['ledger.', 'ledger'],
      ]}
    />
  );
  const result = data.results[0];
  return (
    <Page title="Audit" tools={tools}>
      {!data.ready ? (
        <Skeleton rows={14} />
      ) : result.value ? (
        <Changes value={result.value} query={query} />
      ) : (
        <Failure error={result.error} retry={data.reload} />
      )}
    </Page>
  );
}

function changeColumns({ at, query }) {
  return [
    { key: 'at', head: 'Time, UTC', class: 'nowrap soft', phone: 4, cell: (one) => moment(one.at, at) },
    {
      key: 'author',
      head: 'Who',
      phone: 1,
      cell: (one) => (
        <a href={here({ author: query.author === one.author ? null : one.author })}>
          <Name of={one.author} most={32} />
        </a>
      ),
    },
    {
      key: 'peer',
      far: true,
      head: 'From',
      cell: (one) => (
        <span class="soft">
          <Name of={one.peer} most={28} />
        </span>
      ),
    },
    { key: 'action', head: 'Did', phone: 2, cell: (one) => <span class="mono">{one.action}</span> },
    { key: 'subject', head: 'To what', phone: 3, cell: (one) => <Name of={one.subject} most={48} /> },
    {
      key: 'note',
      head: 'Why',
      cell: (one) => (
        <span class="soft">
          <Name of={one.note} most={64} />
        </span>
      ),
    },
  ];
}

function Changes({ value, query }) {
  const at = now();
  const chosen = value.changes.find((one) => one.id === query.id);
  const footer = (
    <>
      {query.before && (
        <a href={here({ before: null })} data-key="]">
          Latest
        </a>
      )}
      {value.next && (
        <a href={here({ before: value.next })} data-key="[">
          Earlier <kbd aria-hidden="true">[</kbd>
        </a>
      )}
    </>
  );
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">
        {value.changes.length ? (
          <Table
            label="Changes"
            columns={changeColumns({ at, query })}
            rows={value.changes}
            id={(one) => one.id}
            selected={query.id}
            open={(one) => here({ id: one.id })}
            file="audit"
            paged={false}
            footer={footer}
          />
        ) : (
          <Empty title="Nothing was changed." line="agentledger audit" guide="What the audit keeps" topic="admin">
            Every change stands here with who made it, from where and why.
          </Empty>
        )}
      </div>
      {chosen && <ChangeDetail one={chosen} at={at} />}
    </div>
  );
}

function ChangeDetail({ one, at }) {
  const facts = [
    ['When', moment(one.at, at)],
    ['Who', <Name of={one.author} most={DETAIL} />],
    ['From', <Name of={one.peer} most={DETAIL} />],
    ['To what', <Name of={one.subject} most={DETAIL} />],
    ['Event', count(one.sequence)],
  ];
  return (
    <Side label="Change" title={one.action} close={here({ id: null })}>
      <Facts of={facts} />
      {one.note && (
        <p>
          “<Name of={one.note} most={DETAIL} />”
        </p>
      )}
      <Section title="Before">
        <Json of={one.before} />
      </Section>
      <Section title="After">
        <Json of={one.after} />
      </Section>
    </Side>
  );
}

const Json = ({ of }) =>
  of === null || of === undefined ? (
    <p class="soft">nothing</p>
  ) : (
    <pre class="code bare pre" tabIndex={0}>
      {cut(JSON.stringify(of, null, 1).replaceAll('\n', ' '), 2000)}
    </pre>
  );
