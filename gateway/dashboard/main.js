// AgentLedger's dashboard: a page that is a client of the gateway's JSON-RPC and of nothing else.
//
// Parts, and why these. Preact (components, 5 KB compressed) and its signals (state that several views read, 3 KB): both are MIT,
// kept by one team, without eval and without markup from text, so the page can demand Trusted Types and a CSP without
// `unsafe-inline`. JSX is compiled by the same esbuild that bundles, so no template parser runs in the page. Charts are plain
// SVG of our own (parts/chart.jsx): uPlot is a canvas with a style sheet and 20 KB, and hatching, ringed lines, a limit at one
// place down the page, forced colours, both themes and a text for whoever reads by ear would each have to be drawn around it.
// Everything else that floats is the browser's own: dialog, select, focus, history.
//
// Rooms: rpc.js and live.js speak with the gateway; url.js and route.js hold the page's state; data.js asks for figures and
// asks again; format.js, time.js, text.js, order.js and parts/geometry.js are pure; parts/ are pieces; views/ are the views.
//
// `./build` writes gateway/assets/dashboard (committed, so that nobody needs node to build the gateway); `./build --check` fails
// where that differs. `./serve` serves it with the headers that the gateway sends; `./seed` makes a gateway with figures.

import { h, render } from 'preact';
import { App } from './shell.jsx';
import * as keys from './keys.js';
import * as live from './live.js';

/** A figure that is copied has every digit, whatever its column shows. */
document.addEventListener('copy', (event) => {
  const selection = getSelection();
  const at = selection && selection.anchorNode && selection.anchorNode.parentElement;
  const figure = at && at.closest('.usd[title]');
  if (!figure || !figure.contains(selection.focusNode)) return;
  event.clipboardData.setData('text/plain', figure.title);
  event.preventDefault();
});

keys.start();
live.start();
render(h(App), document.getElementById('app'));
