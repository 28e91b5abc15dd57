// What the walk stands on: a server with the page for a gateway, a browser, and checks that are counted.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(`${process.env.DASHBOARD_NODE}/`);
const { chromium } = require('playwright-core');
export const axeSource = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const here = dirname(fileURLToPath(import.meta.url));
const serving = join(here, '../../dashboard/serve');

export const seeded = (name) => JSON.parse(readFileSync(join(process.env.WORK, `${name}.json`), 'utf8'));

/** The page as the gateway itself serves it. */
export const own = (gateway) => ({ base: `http://${gateway.admin}/`, stop: async () => {} });

/** Serves the page for a gateway, so that it can be lost; `port` to come back at the same place. */
export function serve(gateway, { port = 0 } = {}) {
  const child = spawn('node', [serving, '--gateway', gateway.admin, '--port', String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`serve ended with ${code}`)));
    child.stdout.once('data', (text) => {
      const base = String(text).trim();
      resolve({
        base,
        port: Number(new URL(base).port),
        stop: () =>
          new Promise((done) => {
            child.once('exit', done);
            child.kill();
          }),
      });
    });
  });
}

export const launch = () => chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });

/** A page that is signed in, and everything that went wrong on it. */
export async function open(browser, base, { width = 1440, theme = 'light', token = '', height = width < 720 ? 844 : 900 } = {}) {
  const phone = width < 720;
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    hasTouch: phone,
    isMobile: phone,
    reducedMotion: 'reduce',
  });
  if (token)
    await context.addInitScript(
      (value) => sessionStorage.getItem('agentledger.token') ?? sessionStorage.setItem('agentledger.token', value),
      token,
    );
  const page = await context.newPage();
  const faults = [];
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('dialog', (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on(
    'request',
    (request) =>
      !request.url().startsWith(base) &&
      !request.url().startsWith('blob:') &&
      faults.push(`a request off the host: ${request.url()}`),
  );
  page.faults = faults;
  page.at = async (path) => {
    await page.goto(base + path.replace(/^\//, ''));
    await settled(page);
  };
  return page;
}

/** Until figures are there. */
export async function settled(page) {
  await page.waitForFunction(() => document.querySelector('#page') && !document.querySelector('[aria-busy]'), null, {
    timeout: 20_000,
  });
  await page.waitForTimeout(250);
}

let failed = 0;
let passed = 0;

export function check(is, words, more = '') {
  if (is) passed += 1;
  else {
    failed += 1;
    console.log(`FAILED  ${words}${more ? `: ${more}` : ''}`);
  }
}

/** A scenario: whatever it throws is its failure. */
export async function scenario(name, run) {
  const before = failed;
  try {
    await run();
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${String(error.stack || error).slice(0, 800)}`);
  }
  if (failed === before) console.log(`ok      ${name}`);
}

export function summed() {
  console.log(`${passed} checks passed, ${failed} failed`);
  return failed;
}
