// Opens the dashboard again and again in a real browser and prints when it showed something. Run by `paint`.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.DASHBOARD_NODE}/`);
const { chromium } = require('playwright-core');
const gateway = JSON.parse(readFileSync(`${process.env.WORK}/whole.json`, 'utf8'));
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });

const runs = [];
for (let i = 0; i < Number(process.env.TIMES); i += 1) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  await context.addInitScript((token) => sessionStorage.setItem('agentledger.token', token), gateway.token);
  const page = await context.newPage();
  await page.goto(`http://${gateway.admin}/`);
  await page.waitForFunction(() => document.querySelector('#page') && !document.querySelector('[aria-busy]'));
  runs.push(
    await page.evaluate(() => ({
      figures: performance.now(),
      paint: performance.getEntriesByName('first-contentful-paint')[0].startTime,
      files: performance.getEntriesByType('resource').filter((one) => /assets|icon/.test(one.name)).length + 1,
      bytes: [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .filter((one) => !one.name.endsWith('/rpc'))
        .reduce((all, one) => all + one.transferSize, 0),
    })),
  );
  await context.close();
}
await browser.close();

const median = (name) => runs.map((run) => run[name]).sort((a, b) => a - b)[Math.floor(runs.length / 2)];
const most = (name) => Math.max(...runs.map((run) => run[name]));
console.log('| | median | most |');
console.log('|---|---:|---:|');
for (const [words, name] of [
  ['first paint, ms', 'paint'],
  ['first figures, ms', 'figures'],
  ['bytes', 'bytes'],
  ['files', 'files'],
])
  console.log(`| ${words} | ${Math.round(median(name))} | ${Math.round(most(name))} |`);
