// What is done with it: the token, the palette, keys, a lost connection, a token that ends, a budget that refuses the next call, a
// session that is killed, the live tail, a policy that is rehearsed and activated.

import { readFileSync } from 'node:fs';
import { check, open, scenario, seeded, serve, settled } from './rig.mjs';
import { looked } from './views.mjs';

export async function acts(browser) {
  const gateway = seeded('whole');
  const served = await serve(gateway);
  const { base } = served;
  const signedIn = (more) => open(browser, base, { token: gateway.token, ...more });

  await scenario('the token is asked before any figure, and kept for the tab alone', async () => {
    const page = await open(browser, base);
    await page.goto(base);
    await page.waitForSelector('text=This gateway asks for a token.');
    check(!(await page.content()).includes('$'), 'no figure before the token');
    await page.fill('input[name=token]', 'wrong-token-0123456789');
    await page.click('button:has-text("Open")');
    await page.waitForSelector('text=That token is not known here.');
    await page.fill('input[name=token]', gateway.token);
    await page.click('button:has-text("Open")');
    await page.waitForSelector('text=Spent today');
    await settled(page);
    const kept = await page.evaluate(() => ({
      local: JSON.stringify(localStorage),
      cookie: document.cookie,
      url: location.href,
    }));
    check(!JSON.stringify(kept).includes(gateway.token), 'no token in storage beyond the session, in a cookie or in the address');
    check(
      page.faults.every((fault) => /401/.test(fault)),
      'nothing else in the console',
      page.faults.join(' | '),
    );
    await page.context().close();
  });

  await scenario('size: at most five requests and 150 KB, the script under 70', async () => {
    const page = await signedIn();
    const got = [];
    page.on('response', async (answer) => {
      if (!answer.url().includes('/rpc'))
        got.push([
          answer.url(),
          Number(answer.headers()['content-length'] || 0) || (await answer.request().sizes()).responseBodySize,
        ]);
    });
    await page.at('/');
    await page.waitForTimeout(300);
    const all = got.reduce((sum, [, size]) => sum + size, 0);
    const script = got.find(([url]) => url.endsWith('app.js'));
    check(got.length <= 5, 'at most five requests', String(got.length));
    check(all <= 150_000, 'at most 150 KB', String(all));
    check(script && script[1] < 70_000, 'the script under 70 KB', String(script && script[1]));
    console.log(`        ${got.length} requests, ${all} bytes, script ${script && script[1]}`);
    await page.context().close();
  });

  await scenario('the palette and the letters lead to every view', async () => {
    const page = await signedIn();
    await page.at('/');
    await page.keyboard.press('Control+k');
    await page.keyboard.type('budgets');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/budgets');
    await page.keyboard.press('g');
    await page.keyboard.press('s');
    await page.waitForURL('**/spend');
    await page.keyboard.press('?');
    await page.waitForSelector('text=Single letters act');
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.querySelector('dialog[open]'));
    await page.keyboard.press('f');
    await page.keyboard.type('agent = ci-review');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/spend?agent=ci-review');
    await page.goBack();
    await page.waitForURL('**/spend');
    await page.keyboard.press('g');
    await page.keyboard.press('e');
    await page.waitForURL('**/sessions');
    await settled(page);
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/sessions?id=*');
    await settled(page);
    await page.keyboard.press('/');
    await page.keyboard.type('gs');
    check((await page.inputValue('[data-search]')) === 'gs', 'letters are never taken inside a field');
    await page.context().close();
  });

  await scenario('a file has all rows of the filter, and no formula', async () => {
    const page = await signedIn();
    await page.at('/calls?agent=embedder&last=7d');
    const shown = await page.locator('main .beside p').first().textContent();
    const [file] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('e')]);
    const text = readFileSync(await file.path(), 'utf8');
    const rows = text.trim().split('\r\n').length - 1;
    check(
      rows > 100 && Math.abs(rows - Number(shown.replace(/\D*([\d,]+) calls.*/, '$1').replace(',', ''))) < 20,
      'as many rows as calls',
      `${rows}, ${shown}`,
    );
    check(!/^[=+@]/m.test(text), 'no cell begins as a formula does');
    await page.context().close();
  });

  await scenario('a lost connection says so, greys the figures, and comes back without a reload', async () => {
    const page = await signedIn();
    await page.at('/');
    await page.waitForSelector('.state:has-text("Live")');
    await page.evaluate(() => {
      window.stayed = true;
    });
    await served.stop();
    await page.waitForSelector('text=No connection since', { timeout: 15_000 });
    check((await page.locator('.old .headline').count()) > 0, 'figures are grey');
    await page.waitForSelector('text=as of', { timeout: 10_000 });
    Object.assign(served, await serve(gateway, { port: served.port }));
    await page.keyboard.press('r');
    await page.waitForSelector('.state:has-text("Live")', { timeout: 45_000 });
    await page.waitForFunction(() => !document.querySelector('.old'), null, { timeout: 10_000 });
    check(await page.evaluate(() => window.stayed === true), 'the page was not loaded again');
    await page.context().close();
  });

  await scenario('a token that ends in use keeps the page and asks over it', async () => {
    const page = await signedIn();
    await page.at('/budgets');
    let ended = true;
    await page.route('**/rpc', (route) =>
      ended
        ? route.fulfill({
            status: 401,
            contentType: 'application/json',
            body: JSON.stringify({
              jsonrpc: '2.0',
              id: null,
              error: { code: -32003, message: 'this token has expired', data: { code: 'expired_token' } },
            }),
          })
        : route.continue(),
    );
    await page.keyboard.press('g');
    await page.keyboard.press('n');
    await page.waitForSelector('dialog[open] >> text=The token does not open any more.');
    check((await page.locator('h1').count()) > 0, 'the page is still there');
    ended = false;
    await page.fill('dialog[open] input[name=token]', gateway.token);
    await page.click('dialog[open] button:has-text("Open")');
    await page.waitForFunction(() => !document.querySelector('dialog[open]'));
    await page.waitForSelector('text=Spent today', { timeout: 15_000 });
    await page.context().close();
  });

  await scenario('a budget that is set refuses the next call', async () => {
    check((await ask(gateway, 'walker')) === 200, 'the call before passes');
    const page = await signedIn();
    await page.at('/budgets?do=new');
    await page.fill('input[name=account]', 'agent:walker');
    await page.fill('input[name=limit]', '0.000001');
    await page.click('form button.main');
    await page.waitForSelector('.toast >> text=has a limit');
    check((await ask(gateway, 'walker')) === 429, 'the next call is refused');
    await page.click('.toast >> text=Undo');
    await page.waitForSelector('.toast >> text=Undone');
    check((await ask(gateway, 'walker')) === 200, 'after Undo it passes');
    await page.context().close();
  });

  await scenario('a top-up shows what will be, and is done with Undo', async () => {
    const page = await signedIn();
    await page.at('/budgets?account=agent%3Aresearch-bot&window=day');
    await page.fill('input[name=amount]', '20');
    await page.waitForSelector('.after >> text=left of', { timeout: 10_000 });
    await page.click('form button.main');
    await page.waitForSelector('.toast >> text=is topped up by $20');
    await page.click('.toast >> text=Undo');
    await page.waitForSelector('.toast >> text=Undone');
    await page.context().close();
  });

  await scenario('lowering a limit below what is spent asks before', async () => {
    const page = await signedIn();
    await page.at('/budgets?account=agent%3Aresearch-bot&window=day&do=set');
    await page.fill('input[name=limit]', '1');
    await page.click('form button.kill');
    await page.waitForSelector('dialog[open] >> text=is spent already');
    await page.click('dialog[open] >> text=Leave it');
    await page.context().close();
  });

  await scenario('a session is killed, and its next call is refused', async () => {
    check((await ask(gateway, 'killme', 'kill-1')) === 200, 'the call before passes');
    const page = await signedIn();
    await page.at('/sessions?id=kill-1');
    await page.keyboard.press('x');
    await page.click('dialog[open] button:has-text("Kill the session")');
    await page.waitForSelector('.toast >> text=The session is killed.');
    check((await ask(gateway, 'killme', 'kill-1')) >= 400, 'its next call is refused');
    await page.waitForSelector('.detail >> text=killed');
    await page.context().close();
  });

  await scenario('new calls come in by themselves, and wait while one reads', async () => {
    const page = await signedIn();
    await page.at('/calls');
    await page.waitForSelector('.state:has-text("Live")');
    const first = page.locator('main tbody tr').first();
    const before = await first.textContent();
    await page.waitForFunction((text) => document.querySelector('main tbody tr').textContent !== text, before, {
      timeout: 20_000,
    });
    await page.evaluate(() => scrollTo(0, 300));
    await page.waitForSelector('.pill', { timeout: 20_000 });
    const held = await page.locator('main tbody').first().textContent();
    await page.keyboard.press('.');
    await page.waitForFunction((text) => document.querySelector('main tbody').textContent !== text, held);
    await page.context().close();
  });

  await scenario('a policy is rehearsed and activated', async () => {
    const page = await signedIn();
    await page.at('/policies?name=night_hours');
    await page.click('button:has-text("Replay 7 days")');
    await page.waitForSelector('text=Decided differently', { timeout: 120_000 });
    await page.click('button:has-text("Activate now")');
    await page.click('dialog[open] button:has-text("Activate")');
    await page.waitForSelector('.toast >> text=is in force');
    await page.context().close();
  });

  await scenario('a reader may look, and is told which right is missing', async () => {
    const page = await open(browser, base, { token: gateway.reader });
    await page.at('/keys');
    await page.click('td button:has-text("Block") >> nth=0');
    await page.click('dialog[open] button:has-text("Block the key")');
    await page.waitForSelector('dialog[open] [role=alert]');
    check(/role|may/.test(await page.locator('dialog[open] [role=alert]').textContent()), 'the refusal is said');
    await page.context().close();
  });

  for (const [words, sum] of [
    ['huge', '12345678.90'],
    ['tiny', '0.0001'],
  ]) {
    await scenario(`${words} sums are shown whole`, () => sums(browser, base, gateway, sum));
  }
  await scenario('a thousand budgets and a thousand agents stay few nodes', () => thousands(browser, base, gateway));

  await scenario("a machine whose clock differs shows the gateway's days", () => clocks(browser, base, gateway));

  await scenario('a gateway without a socket for the page is asked every few seconds', async () => {
    const page = await signedIn();
    await page.routeWebSocket('**/rpc', (socket) => socket.close());
    await page.at('/');
    await page.waitForSelector('.state:has-text("Every 5 s")');
    check((await page.locator('.lost').count()) === 0, 'no banner');
    await page.context().close();
  });

  await served.stop();
}

/** The gateway's answers, with each figure of money replaced. */
async function sums(browser, base, gateway, sum) {
  for (const width of [1440, 390]) {
    const page = await open(browser, base, { token: gateway.token, width });
    await page.route('**/rpc', async (route) => {
      const answer = await route.fetch();
      const text = (await answer.text()).replace(
        /"(\w*_usd|usd|limit|left|over|forecast\w*|topped_up|usd_per_minute)":"[\d.]+"/g,
        `"$1":"${sum}"`,
      );
      await route.fulfill({ response: answer, body: text });
    });
    for (const path of [
      '/',
      '/spend',
      '/who',
      '/budgets?account=agent%3Aresearch-bot&window=day',
      '/sessions?id=run-8841&tenant=initech',
      '/calls',
      '/mcp?server=github',
      '/ledger',
      '/keys',
      '/providers',
    ]) {
      await page.at(path);
      await looked(page, `${path} at ${width} with $${sum}`, { access: false });
    }
    await page.context().close();
  }
}

/** A thousand rows where the gateway has a few. */
async function thousands(browser, base, gateway) {
  const page = await open(browser, base, { token: gateway.token });
  const many = (rows, name) =>
    Array.from({ length: 1000 }, (_, i) => ({
      ...rows[i % rows.length],
      [name]: `${name === 'account' ? 'agent:' : ''}bot-${i}`,
    }));
  await page.route('**/rpc', async (route) => {
    const answer = await route.fetch();
    const replies = await answer.json();
    for (const { result } of Array.isArray(replies) ? replies : []) {
      if (result && result.budgets && result.budgets.length > 3)
        result.budgets = many(
          result.budgets.filter((row) => row.limits.length),
          'account',
        );
      if (result && result.rows && result.rows[0] && result.rows[0].agent) result.rows = many(result.rows, 'agent');
      if (result && result.sessions && result.sessions.length > 3) result.sessions = many(result.sessions, 'id');
    }
    await route.fulfill({ response: answer, json: replies });
  });
  for (const path of ['/budgets', '/budgets?all=1&order=name', '/who?by=agent', '/spend?by=agent', '/sessions', '/']) {
    await page.at(path);
    const nodes = await page.evaluate(() => document.querySelectorAll('*').length);
    check(nodes <= 2000, `${path} with a thousand rows: at most 2000 nodes`, String(nodes));
  }
  await page.at('/budgets?q=bot-777');
  check((await page.locator('main').innerText()).includes('bot-777'), 'a budget is found by its name');
  await page.context().close();
}

/** Three days behind and ahead: the same sum of today as with the right clock, and no age in the days to come. */
async function clocks(browser, base, gateway) {
  const today = async (shiftMs) => {
    const page = await open(browser, base, { token: gateway.token });
    await page.addInitScript((by) => {
      const Right = Date;
      window.Date = class extends Right {
        constructor(...parts) {
          super(...(parts.length ? parts : [Right.now() + by]));
        }
        static now() {
          return Right.now() + by;
        }
      };
    }, shiftMs);
    await page.at('/');
    const seen = { sum: await page.locator('.headline').first().innerText(), href: '' };
    seen.href = await page.locator('a.headline').first().getAttribute('href');
    check(page.faults.length === 0, `a clock off by ${shiftMs} ms: nothing in the console`, page.faults.join(' | '));
    await page.context().close();
    return seen;
  };
  const right = await today(0);
  for (const days of [-3, 3]) {
    const seen = await today(days * 86_400_000);
    check(seen.href === right.href, `${days} days off: the day that is today's begins alike`, `${seen.href}, ${right.href}`);
    check(seen.sum === right.sum, `${days} days off: the same sum of today`, `${seen.sum}, ${right.sum}`);
  }
}

/** A call through the gateway; the status of its answer. */
async function ask(gateway, agent, session = '') {
  const answer = await fetch(`http://${gateway.listen}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Authorization: 'Bearer sk-globex-walk-0001',
      'X-Agent-Id': agent,
      ...(session ? { 'X-Agent-Session': session } : {}),
    },
    body: JSON.stringify({
      model: 'gpt-5-mini',
      max_completion_tokens: 64,
      messages: [{ role: 'user', content: JSON.stringify({ in: 1000, out: 10, n: Math.random() }) }],
    }),
  });
  await answer.text();
  return answer.status;
}
