// The client of the TypeScript SDK 2.x as the official conformance suite drives it: `conformant.mjs URL`, with what the suite says in
// its variables.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const isModern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION >= "2026-07-28";

const url = new URL(process.argv[2]);

// Logs in without anybody looking: the authorization server of the suite sends its code at once.
class Login {
    constructor() {
        this.kept = {};
    }
    redirectUrl = "http://127.0.0.1:1/callback";
    clientMetadataUrl = "https://conformance-test.local/client-metadata.json";
    clientMetadata = {
        client_name: "conformant",
        redirect_uris: [this.redirectUrl],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
    };
    clientInformation() {
        const { client_id, client_secret } = context;
        return this.kept.client ?? (client_id && !context.signing_algorithm ? { client_id, client_secret } : undefined);
    }
    saveClientInformation(client) {
        this.kept.client = client;
    }
    tokens() {
        return this.kept.tokens;
    }
    saveTokens(tokens) {
        this.kept.tokens = tokens;
    }
    codeVerifier() {
        return this.kept.verifier;
    }
    saveCodeVerifier(verifier) {
        this.kept.verifier = verifier;
    }
    async redirectToAuthorization(where) {
        const answer = await fetch(where, { redirect: "manual" });
        this.answered = new URL(answer.headers.get("location"), where).searchParams;
    }
    invalidateCredentials() {
        this.kept = {};
    }
}

const login = new Login();

// What a schema asks for.
function made({ type, properties = {}, enum: some, default: usual }) {
    if (usual !== undefined) return usual;
    if (some) return some[0];
    if (type === "object") return Object.fromEntries(Object.entries(properties).map(([name, of]) => [name, made(of)]));
    return { string: "text", integer: 1, number: 1.5, boolean: true, array: [] }[type] ?? null;
}

// What fails is the suite's to judge. A tool may want more than was logged in for.
async function tried(what, done, mayAsk = true) {
    try {
        return await done();
    } catch (error) {
        if (mayAsk && error instanceof UnauthorizedError && login.answered) {
            await client.transport.finishAuth(login.answered);
            return tried(what, done, false);
        }
        console.error(what, error.message);
    }
}

async function connected() {
    const elicitation = { form: { applyDefaults: true } };
    const capabilities = { elicitation, sampling: {}, roots: {} };
    const versionNegotiation = { mode: isModern ? "auto" : "legacy" };
    const client = new Client({ name: "conformant", version: "1.0.0" }, { capabilities, versionNegotiation });
    client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: {} }));
    client.setRequestHandler("roots/list", async () => ({ roots: [] }));
    client.setRequestHandler("sampling/createMessage", async () => ({
        role: "assistant",
        model: "m-1",
        content: { type: "text", text: "forty-two" },
    }));
    for (let round = 0; ; round++) {
        const transport = new StreamableHTTPClientTransport(url, { authProvider: scenario.startsWith("auth/") ? login : undefined });
        try {
            await client.connect(transport);
            return client;
        } catch (error) {
            if (!(error instanceof UnauthorizedError) || round === 2 || !login.answered) throw error;
            await transport.finishAuth(login.answered);
        }
    }
}

async function called(client, tool) {
    const args = tool.name === "json_schema_echo" ? { schema: focal } : made(tool.inputSchema);
    await tried(tool.name, () => client.callTool({ name: tool.name, arguments: args ?? {} }));
}

let focal;
const client = await connected();
const { tools } = (await tried("tools", () => client.listTools())) ?? { tools: [] };
focal = tools.find((tool) => tool.name === "json_schema_2020_12_tool")?.inputSchema;
for (const { name, arguments: args } of context.toolCalls ?? []) {
    await tried(name, () => client.callTool({ name, arguments: args }));
}
for (const tool of context.toolCalls ? [] : tools) await called(client, tool);
const { resources } = (await tried("resources", () => client.listResources())) ?? { resources: [] };
for (const { uri } of resources) await tried(uri, () => client.readResource({ uri }));
const { prompts } = (await tried("prompts", () => client.listPrompts())) ?? { prompts: [] };
for (const { name } of prompts) await tried(name, () => client.getPrompt({ name }));
await client.close();
process.exit(0);
