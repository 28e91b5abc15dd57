// What reads which dialect, and does it fail.

import { count } from '../format.js';
import { useCalls } from '../data.js';
import { to } from '../route.js';
import { Page } from '../shell.jsx';
import { Name, None, Stop } from '../parts/text.jsx';
import { Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';

function pluginColumns() {
  return [
    { key: 'name', head: 'Dialect', sort: 'text', phone: 1, cell: (row) => <Name of={row.name} /> },
    { key: 'version', head: 'Version', phone: 2, cell: (row) => <span class="soft">{row.version}</span> },
    {
      key: 'source',
      far: true,
      head: 'From',
      phone: 3,
      cell: (row) => (
        <span class="soft">
          <Name of={row.source} most={64} />
        </span>
      ),
    },
    {
      key: 'providers',
      head: 'Reads for',
      value: (row) => row.providers.join(' '),
      cell: (row) =>
        row.providers.map((name, i) => (
          <>
            {i > 0 && ', '}
            <a key={name} href={to('calls', { provider: name })}>
              <Name of={name} most={24} />
            </a>
          </>
        )),
    },
    {
      key: 'calls',
      head: 'Calls',
      num: true,
      value: (row) => row.calls,
      cell: (row) => (row.calls === undefined ? <None /> : count(row.calls)),
    },
    {
      key: 'failed',
      head: 'Failed',
      num: true,
      phone: 4,
      value: (row) => row.failures,
      cell: (row) =>
        row.failures === undefined ? (
          <None />
        ) : row.failures ? (
          <span class="refused">
            <Stop label="failed" /> {count(row.failures)}
          </span>
        ) : (
          '0'
        ),
    },
  ];
}

export function Plugins() {
  const data = useCalls([['plugin.list', {}]], { every: 60_000 });
  const columns = pluginColumns();
  const result = data.results[0];
  return (
    <Page title="Plugins">
      {!data.ready ? (
        <Skeleton rows={6} />
      ) : result.value ? (
        <Table
          label="Plugins"
          columns={columns}
          rows={result.value.plugins}
          id={(row) => row.name}
          file="plugins"
          footer={
            <span>
              A dialect of yours: <a href="/guide/plugins">Guide, plugins</a>
            </span>
          }
        />
      ) : (
        <Failure error={result.error} retry={data.reload} />
      )}
    </Page>
  );
}
