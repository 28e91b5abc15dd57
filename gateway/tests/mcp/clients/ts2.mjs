// The client of the TypeScript SDK 2.x, in the era that its server is of. `ts2.mjs SPEC`: see `said.mjs`.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { capabilities, run } from "./said.mjs";

function transport({ transport, url, headers, command, env }) {
    if (transport === "stdio") return new StdioClientTransport({ command: command[0], args: command.slice(1), env });
    return new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
}

const isModern = (client) => client.getProtocolEra() === "modern";

await run({
    async connect(spec, handlers) {
        const versionNegotiation = { mode: spec.legacy ? "legacy" : "auto" };
        const client = new Client({ name: "ts2", version: "1.0.0" }, { capabilities: capabilities(handlers), versionNegotiation });
        for (const [method, handler] of Object.entries(handlers)) {
            client[method.startsWith("notifications/") ? "setNotificationHandler" : "setRequestHandler"](method, handler);
        }
        await client.connect(transport(spec));
        return client;
    },
    version: (client) => client.getNegotiatedProtocolVersion(),
    async close(client) {
        await client.transport.terminateSession?.();
        await client.close();
    },
    options: (options) => options,
    logAt: (client, level) => isModern(client) || client.setLoggingLevel(level),
    logMeta: (level) => ({ "io.modelcontextprotocol/logLevel": level }),
    async subscribe(client, uri) {
        if (isModern(client)) {
            const listening = await client.listen({ resourceSubscriptions: [uri] });
            return () => listening.close();
        }
        await client.subscribeResource({ uri });
        return () => client.unsubscribeResource({ uri });
    },
});
