// The frame around every view: side, bar, tabs, what floats. A view gives its title, its tools and its content.

import { Component } from 'preact';
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { count, lasted, age } from './format.js';
import { access, forget, link, offset } from './rpc.js';
import { live, paused } from './live.js';
import { going, LETTERS, palette, theme } from './keys.js';
import { onClick, route, to } from './route.js';
import { me } from './me.js';
import { GROUPS, TABS, TITLES } from './titles.js';
import { useCalls } from './data.js';
import { Failure, LiveState, Lost, TokenForm } from './parts/states.jsx';
import { Patterns } from './parts/chart.jsx';
import { Said, Sheet } from './parts/sheet.jsx';
import { Help, Palette } from './parts/palette.jsx';
import { Name } from './parts/text.jsx';
import { VIEW } from './views/index.js';

const letterOf = Object.fromEntries(Object.entries(LETTERS).map(([letter, view]) => [view, letter]));

export function App() {
  const { asked, began } = access.value;
  const [menu, setMenu] = useState(false);
  const { view } = route.value;
  useEffect(() => setMenu(false), [view]);
  useEffect(() => {
    document.title = `${TITLES[view] || 'Not found'} · AgentLedger`;
  }, [view]);
  const bare = asked && !began;
  return (
    <div onClick={onClick} class={link.value.state === 'down' ? 'old' : undefined}>
      <a
        class="skip"
        href="#page"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('page').focus();
        }}>
        To the page
      </a>
      <Patterns />
      <Side open={menu} bare={bare} />
      {menu && <button type="button" class="scrim" aria-label="Close the menu" onClick={() => setMenu(false)} />}
      {bare ? <Bare /> : <Viewed view={view} onMenu={() => setMenu(true)} />}
      <Tabs onMore={() => setMenu(true)} more={menu} />
      {asked && began && <Again />}
      <Sheet />
      <Palette />
      <Help />
      <Said />
    </div>
  );
}

function Bare() {
  return (
    <>
      <header class="bar">
        <h1>AgentLedger</h1>
      </header>
      <main id="page" tabIndex={-1}>
        <TokenForm />
      </main>
    </>
  );
}

/** The token ended in use: the page stays, and asks over it. */
function Again() {
  const ref = useRef(null);
  useEffect(() => ref.current.showModal(), []);
  return (
    <dialog ref={ref} class="floats" aria-label="Token" onCancel={(event) => event.preventDefault()}>
      <div class="sheet">
        <TokenForm />
      </div>
    </dialog>
  );
}

function Viewed({ view, onMenu }) {
  const View = VIEW[view] || NotFound;
  menuOpener.current = onMenu;
  return (
    <Boundary key={view}>
      <View />
    </Boundary>
  );
}

/** What a view could not draw is its own loss: the frame stays, and says so. */
class Boundary extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  render({ children }, { error }) {
    if (!error) return children;
    console.error(error);
    return (
      <Page title={TITLES[route.value.view] || 'AgentLedger'}>
        <Failure
          error={{ code: 'page', id: route.value.view, message: 'This view could not be drawn.' }}
          retry={() => this.setState({ error: null })}
        />
      </Page>
    );
  }
}

const menuOpener = { current: () => {} };

/** A view's bar and page. `phone`: where the tools stand in a narrow window, whose bar has no room for them. `split`: a list and a detail, of which a narrow window shows the one that is `chosen`. */
export function Page({ title, tools, children, split = false, chosen = false, phone = 'first' }) {
  return (
    <>
      <header class="bar">
        <button type="button" class="button menu" onClick={() => menuOpener.current()}>
          Menu
        </button>
        <h1>{title}</h1>
        <div class="tools">{tools}</div>
        <div class="end">
          <LiveState paused={paused} />
          <button
            type="button"
            class="button search"
            onClick={() => {
              palette.value = 'all';
            }}>
            <span>
              Go to<span class="wide-only">, filter, do</span>
            </span>
            <kbd aria-hidden="true">Ctrl K</kbd>
          </button>
        </div>
      </header>
      <Lost />
      <ClockOff />
      <main id="page" tabIndex={-1} class={split ? `split${chosen ? ' chosen' : ''}` : undefined}>
        {!split && tools && phone === 'first' && <div class="phone-tools">{tools}</div>}
        {children}
        {!split && tools && phone === 'last' && <div class="phone-tools last">{tools}</div>}
      </main>
    </>
  );
}

function ClockOff() {
  const off = offset.value;
  if (Math.abs(off) <= 2000) return null;
  return (
    <p class="lost" role="status">
      The gateway’s clock is {lasted(Math.abs(off))} {off > 0 ? 'ahead of' : 'behind'} this machine’s. Ages here go by the
      gateway’s.
    </p>
  );
}

function NotFound() {
  return (
    <Page title="Not found">
      <div class="told">
        <h2>There is no such view.</h2>
        <p>
          <a href="/">Now</a> shows what runs.
        </p>
      </div>
    </Page>
  );
}

function Side({ open, bare }) {
  const { view } = route.value;
  return (
    <aside class={`side${open ? ' open' : ''}`}>
      <a class="brand plain" href="/">
        <svg viewBox="0 0 16 16" aria-hidden="true">
          <rect width="16" height="16" rx="4" fill="var(--ink)" />
          <path d="M4 4.5h8M4 8h8M4 11.5h5" stroke="var(--bg)" stroke-width="1.5" />
        </svg>
        AgentLedger
      </a>
      <nav aria-label="Views">
        {GROUPS.map(([name, views]) => [
          name && <h2 key={name}>{name}</h2>,
          <ul key={`${name} views`}>
            {views.map((one) => (
              <li key={one}>
                <a href={to(one)} aria-current={one === view ? 'page' : undefined}>
                  {TITLES[one]}
                  <span class="n">{going.value ? <kbd>{letterOf[one]}</kbd> : !bare && <Counted view={one} />}</span>
                </a>
              </li>
            ))}
          </ul>,
        ])}
      </nav>
      {!bare && <Foot />}
    </aside>
  );
}

/** The gateway's own status: one answer for the whole frame. */
const standing = signal(null);

/** How many there are that want a look. Where the gateway does not say, nothing stands here. */
function Counted({ view }) {
  const status = standing.value;
  const n = status && (view === 'sessions' ? status.sessions_active : view === 'alerts' ? status.alerts_open : undefined);
  return n ? count(n) : null;
}

function Foot() {
  const data = useCalls([['system.status'], ['system.whoami']], { every: 30_000, on: ['alert.feed'] });
  const [status, who] = data.results;
  const value = status && status.value;
  const known = who && who.value;
  useEffect(() => {
    standing.value = value || null;
    me.value = known || null;
  }, [value, known]);
  const may = { read: 'may look', operate: 'may steer', admin: 'may edit' };
  return (
    <div class="foot">
      <div>
        {known ? (
          <>
            <Name of={known.name} most={20} /> · {may[known.role] || known.role}
          </>
        ) : (
          <span>signed in</span>
        )}
      </div>
      <div>{value ? `${value.version ? `${value.version.split(' ')[0]} · ` : ''}up ${age(value.uptime_s * 1000)}` : '–'}</div>
      <div>
        <button type="button" class="state flush" onClick={forget}>
          <u>Leave</u>
        </button>
        {theme.value !== 'system' && ` · ${theme.value} theme`}
      </div>
    </div>
  );
}

function Tabs({ onMore, more }) {
  const { view } = route.value;
  return (
    <nav class="tabs" aria-label="Main views">
      {TABS.map((one) => (
        <a key={one} href={to(one)} aria-current={one === view ? 'page' : undefined}>
          {TITLES[one]}
        </a>
      ))}
      <button type="button" onClick={onMore} aria-expanded={more} aria-current={TABS.includes(view) ? undefined : 'page'}>
        More
      </button>
    </nav>
  );
}
