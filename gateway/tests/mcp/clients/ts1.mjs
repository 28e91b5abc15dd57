// The client of the TypeScript SDK 1.x. `ts1.mjs SPEC`: see `said.mjs`.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";
import { capabilities, run } from "./said.mjs";

const SCHEMAS = {
    "sampling/createMessage": types.CreateMessageRequestSchema,
    "elicitation/create": types.ElicitRequestSchema,
    "roots/list": types.ListRootsRequestSchema,
    "notifications/message": types.LoggingMessageNotificationSchema,
    "notifications/resources/updated": types.ResourceUpdatedNotificationSchema,
};

function transport({ transport, url, headers, command, env }) {
    if (transport === "stdio") return new StdioClientTransport({ command: command[0], args: command.slice(1), env });
    const Kind = transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
    return new Kind(new URL(url), { requestInit: { headers } });
}

await run({
    async connect(spec, handlers) {
        const client = new Client({ name: "ts1", version: "1.0.0" }, { capabilities: capabilities(handlers) });
        for (const [method, handler] of Object.entries(handlers)) {
            const set = method.startsWith("notifications/") ? "setNotificationHandler" : "setRequestHandler";
            client[set](SCHEMAS[method], handler);
        }
        await client.connect(transport(spec));
        return client;
    },
    version: (client) => client.transport.protocolVersion ?? null,
    async close(client) {
        await client.transport.terminateSession?.();
        await client.close();
    },
    options: (options) => [undefined, options],
    logAt: (client, level) => client.setLoggingLevel(level),
    logMeta: () => undefined,
    async subscribe(client, uri) {
        await client.subscribeResource({ uri });
        return () => client.unsubscribeResource({ uri });
    },
});
