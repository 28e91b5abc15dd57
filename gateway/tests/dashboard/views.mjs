// Every view, wide and narrow, light and dark: it draws, nothing scrolls sideways, no money is cut, axe finds nothing serious, and
// it stays within its sizes.

import { mkdirSync } from 'node:fs';
import { axeSource, check, open, own, scenario, seeded } from './rig.mjs';

const VIEWS = {
  now: '/',
  spend: '/spend',
  'spend-tokens': '/spend?unit=tokens&by=agent&last=1y',
  who: '/who?by=tenant',
  sessions: '/sessions',
  session: '/sessions?id=run-8841&tenant=initech',
  calls: '/calls?sort=cost',
  refused: '/calls?is=refused',
  running: '/calls?is=running',
  budgets: '/budgets',
  budget: '/budgets?account=agent%3Aresearch-bot&window=day',
  'budget-new': '/budgets?do=new',
  rates: '/rates',
  keys: '/keys',
  policies: '/policies?name=night_hours',
  providers: '/providers',
  prices: '/prices?model=gpt-5',
  mcp: '/mcp?server=github',
  plugins: '/plugins',
  alerts: '/alerts',
  ledger: '/ledger',
  audit: '/audit',
  guide: '/guide/budgets',
};
const NODES_MAX = 2_000;

export async function views(browser) {
  const shots = process.env.SHOTS;
  mkdirSync(shots, { recursive: true });
  const gateway = seeded('whole');
  const served = own(gateway);
  for (const width of [1440, 390]) {
    for (const theme of ['light', 'dark']) {
      const page = await open(browser, served.base, { width, theme, token: gateway.token });
      for (const [name, path] of Object.entries(VIEWS)) {
        await scenario(`${name} at ${width}, ${theme}`, async () => {
          page.faults.length = 0;
          await page.at(path);
          await page.screenshot({ path: `${shots}/${name}-${width}-${theme}.png` });
          await looked(page, `${name} at ${width}, ${theme}`);
        });
      }
      await page.context().close();
    }
  }
  await scenario('windows of other widths lose nothing', () => narrow(browser, served, gateway));
  await served.stop();
  for (const name of ['hostile', 'empty']) await other(browser, name, shots);
}

export async function looked(page, words, { access = true } = {}) {
  check(page.faults.length === 0, `${words}: nothing in the console`, page.faults.join(' | ').slice(0, 500));
  const found = await page.evaluate(
    () => ({
      over: document.documentElement.scrollWidth - innerWidth,
      nodes: document.querySelectorAll('*').length,
      cut: Array.from(document.querySelectorAll('.usd, .headline, .figure, .minor'))
        .filter((one) => one.offsetParent && clipped(one))
        .map((one) => one.textContent)
        .slice(0, 5),
      wide: Array.from(document.querySelectorAll('.listing table, .detail table')).filter(
        (one) => one.offsetWidth > one.parentElement.clientWidth + 1 && !one.closest('.scrolls'),
      ).length,
      styles: document.querySelectorAll('style, [onclick], [onerror]').length,
    }),
    await page.evaluate(() => {
      // Money that is wider than the box that hides the rest of it.
      window.clipped = (one) => {
        const box = one.getBoundingClientRect();
        for (let up = one.parentElement; up; up = up.parentElement) {
          if (up.tagName === 'MAIN') return box.right > innerWidth + 1;
          const style = getComputedStyle(up);
          if (
            style.overflowX === 'hidden' &&
            up.getBoundingClientRect().width > 1 &&
            box.right > up.getBoundingClientRect().right + 1
          )
            return true;
        }
        return false;
      };
    }),
  );
  check(found.over <= 0, `${words}: nothing scrolls sideways`, `${found.over} px`);
  check(found.nodes <= NODES_MAX, `${words}: at most ${NODES_MAX} nodes`, String(found.nodes));
  check(found.cut.length === 0, `${words}: no money is cut`, found.cut.join(', '));
  check(found.wide === 0, `${words}: no table reaches under what stands beside it`);
  check(found.styles === 0, `${words}: no markup of styles or handlers`);
  if (!access) return;
  const serious = await axe(page);
  check(serious.length === 0, `${words}: axe finds nothing serious`, serious.join('; ').slice(0, 700));
}

/** axe is brought in by the driver's own world, so that the page's CSP stays as it is. */
async function axe(page) {
  await page.evaluate(axeSource);
  const result = await page.evaluate(() =>
    window.axe.run(document, {
      resultTypes: ['violations'],
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'],
    }),
  );
  return result.violations
    .filter((one) => one.impact === 'serious' || one.impact === 'critical')
    .map(
      (one) =>
        `${one.id} (${one.nodes.length}): ${one.nodes[0].target.join(' ')} ${one.nodes[0].failureSummary.split('\n')[1] || ''}`,
    );
}

/** 320 px, and the widths of a window at twice its size and of a tablet. */
async function narrow(browser, served, gateway) {
  for (const width of [320, 720, 800, 1024]) {
    const page = await open(browser, served.base, { width, height: 640, token: gateway.token });
    for (const path of [
      '/',
      '/budgets',
      '/budgets?account=agent%3Aresearch-bot&window=day',
      '/spend',
      '/sessions?id=run-8841&tenant=initech',
      '/calls',
      '/ledger',
      '/policies?name=night_hours',
    ]) {
      await page.at(path);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(over <= 0, `${path} at ${width}: nothing scrolls sideways`, `${over} px`);
      if (process.env.SHOTS)
        await page.screenshot({ path: `${process.env.SHOTS}/narrow-${width}-${path.replace(/\W+/g, '-').slice(0, 24)}.png` });
    }
    await page.context().close();
  }
}

/** The same views where names are hostile, and where there is nothing at all. */
async function other(browser, name, shots) {
  const gateway = seeded(name);
  const served = own(gateway);
  for (const width of [1440, 390]) {
    const page = await open(browser, served.base, { width, token: gateway.token });
    for (const [view, path] of Object.entries(VIEWS)) {
      await scenario(`${view} at ${width}, ${name}`, async () => {
        page.faults.length = 0;
        await page.at(view === 'spend' || view === 'who' ? `/${view}?by=agent&last=7d` : path);
        await page.screenshot({ path: `${shots}/${name}-${view}-${width}.png` });
        await looked(page, `${view} at ${width}, ${name}`);
        check((await page.locator('main img').count()) === 0, `${view}, ${name}: no markup of a name's`);
      });
    }
    await page.context().close();
  }
  await served.stop();
}
