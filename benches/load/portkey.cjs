// Starts Portkey with so many processes on one port, as its documentation has PM2 do it: node portkey.cjs SERVER PORT PROCESSES
//
// Each of them loads this file again, before Portkey's own.
const cluster = require("node:cluster");
const net = require("node:net");

if (cluster.isPrimary) {
  const [server, port, processes] = process.argv.slice(2);
  cluster.setupPrimary({ exec: server, args: [`--port=${port}`, "--headless"], execArgv: ["--require", __filename] });
  for (let started = 0; started < Number(processes); started += 1) {
    cluster.fork();
  }
} else {
  // Portkey listens on every address and cannot be told otherwise: whoever is near would have an open relay.
  const { listen } = net.Server.prototype;
  net.Server.prototype.listen = function (port, _host, ...rest) {
    return listen.call(this, port, "127.0.0.1", ...rest);
  };
}
