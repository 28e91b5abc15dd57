// What a client's code saw, scenario by scenario, as lines of JSON; and the scenarios themselves, which both SDKs can run: `sdk` says
// how it connects and what differs between them.

export async function run(sdk) {
    const spec = JSON.parse(process.argv[2]);
    for (const name of spec.scenarios) {
        const lines = [];
        const said = (what, value) => lines.push([what, value ?? null]);
        said.failing = async (what, promise) => {
            try {
                said(`${what} did not fail`, await promise);
            } catch (error) {
                said(`${what} failed`, { code: error.code ?? null, message: error.message });
            }
        };
        const headers = { ...spec.headers };
        if (headers["X-Agent-Task"]) headers["X-Agent-Task"] += `/${name}`;
        try {
            await scenarios[name](said, { ...spec, headers, scenario: name }, sdk);
        } catch (error) {
            said("broke off", String(error));
            said("trace", error.stack);
        }
        console.log(JSON.stringify({ scenario: name, said: lines }));
    }
    process.exit(0);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function connected(said, spec, sdk, handlers, use) {
    const client = await sdk.connect(spec, handlers);
    said("connected", [sdk.version(client), client.getServerVersion(), client.getServerCapabilities(), client.getInstructions()]);
    try {
        await use(client);
    } finally {
        await sdk.close(client);
    }
}

const call = (client, name, args, options) => client.callTool({ name, arguments: args }, ...(options ? [options].flat() : []));

const scenarios = {
    tools: (said, spec, sdk) =>
        connected(said, spec, sdk, {}, async (client) => {
            said("tools", await client.listTools());
            said("echo", await call(client, "echo", { message: 'ünïcödé ✓ "quoted" \\ \u2028' }));
            said("sum", await call(client, "get-sum", { a: 2, b: 3 }));
            await said.failing("wrong arguments", call(client, "get-sum", { a: "two" }));
            await said.failing("no such tool", call(client, "no-such-tool", {}));
            said("long", await call(client, "echo", { message: "long ".repeat(40_000) }));
        }),

    resources: (said, spec, sdk) =>
        connected(said, spec, sdk, {}, async (client) => {
            const listed = await client.listResources();
            said("resources", listed);
            said("templates", await client.listResourceTemplates());
            for (const { uri } of listed.resources.slice(0, 3)) said(uri, await client.readResource({ uri }));
            said("of a template", await client.readResource({ uri: spec.item }));
            await said.failing("an unknown one", client.readResource({ uri: "demo://nowhere" }));
        }),

    prompts: (said, spec, sdk) =>
        connected(said, spec, sdk, {}, async (client) => {
            said("prompts", await client.listPrompts());
            said("simple", await client.getPrompt({ name: "simple-prompt" }));
            said("with arguments", await client.getPrompt({ name: "args-prompt", arguments: { city: "Bern", state: "BE" } }));
            await said.failing("an unknown one", client.getPrompt({ name: "no-such-prompt" }));
            if (spec.completes) {
                const ref = { type: "ref/prompt", name: spec.completes[0] };
                said("completed", await client.complete({ ref, argument: { name: spec.completes[1], value: "B" } }));
            }
        }),

    progress: (said, spec, sdk) =>
        connected(said, spec, sdk, {}, async (client) => {
            // The last comes with the answer: which of both is seen first is the client's own affair.
            const onprogress = (told) => told.progress < told.total && said("progress", told);
            const args = { duration: 0.4, steps: 4 };
            said("done", await call(client, "trigger-long-running-operation", args, sdk.options({ onprogress })));
        }),

    sampling: (said, spec, sdk) => {
        const model = async ({ params }) => {
            said("asked", params);
            return { role: "assistant", model: "m-1", content: { type: "text", text: "forty-two" }, stopReason: "endTurn" };
        };
        return connected(said, spec, sdk, { "sampling/createMessage": model }, async (client) => {
            said("sampled", await call(client, "trigger-sampling-request", { prompt: "What is the answer?", maxTokens: 50 }));
        });
    },

    elicitation: (said, spec, sdk) => {
        const user = async ({ params }) => {
            said("asked", params);
            return { action: "accept", content: { name: "Ann" } };
        };
        return connected(said, spec, sdk, { "elicitation/create": user }, async (client) => {
            said("elicited", await call(client, "trigger-elicitation-request", {}));
            said("elicited again", await call(client, "trigger-elicitation-request", {}));
        });
    },

    roots: (said, spec, sdk) => {
        const listed = async () => ({ roots: [{ uri: "file:///work/one", name: "one" }, { uri: "file:///work/two", name: "two" }] });
        return connected(said, spec, sdk, { "roots/list": listed }, async (client) => {
            said("roots", await call(client, "get-roots-list", {}));
        });
    },

    logging: (said, spec, sdk) => {
        const logged = async ({ params }) => said("logged", params);
        return connected(said, spec, sdk, { "notifications/message": logged }, async (client) => {
            await sdk.logAt(client, "info");
            said("done", await client.callTool({ name: "log", arguments: {}, _meta: sdk.logMeta("info") }));
        });
    },

    cancellation: (said, spec, sdk) =>
        connected(said, spec, sdk, {}, async (client) => {
            const stop = new AbortController();
            let begun;
            const began = new Promise((done) => (begun = done));
            const options = sdk.options({ onprogress: begun, signal: stop.signal });
            const cancelled = call(client, "trigger-long-running-operation", { duration: 2, steps: 10 }, options);
            cancelled.catch(() => {});
            await began;
            stop.abort("no longer wanted");
            await said.failing("the cancelled call", cancelled);
            said("and another", await call(client, "echo", { message: "meanwhile" }));
        }),

    subscription: async (said, spec, sdk) => {
        let heard;
        const updated = new Promise((done) => (heard = done));
        await connected(said, spec, sdk, { "notifications/resources/updated": async ({ params }) => heard(params) }, async (client) => {
            const end = await sdk.subscribe(client, spec.watched);
            // The stream on which it is told is another than those of the requests.
            await pause(300);
            said("touched", await call(client, ...spec.touch));
            said("updated", await updated);
            said("unsubscribed", await end());
        });
    },

    resume: (said, spec, sdk) =>
        connected(said, { ...spec, legacy: true }, sdk, {}, async (client) => {
            said("answered", await call(client, "leave", {}));
            said("and another", await call(client, "echo", { message: "after it" }));
        }),

    task: (said, spec, sdk) =>
        connected(said, spec, sdk, {}, async (client) => {
            const about = { name: "simulate-research-query", arguments: { topic: "owls" } };
            for await (const told of client.experimental.tasks.callToolStream(about, undefined, { task: {} })) {
                if (told.type !== "taskStatus") said(told.type, told.result ?? told.task?.status ?? String(told.error));
            }
        }),

    files: (said, spec, sdk) => {
        const listed = async () => ({ roots: [{ uri: `file://${spec.folder}` }] });
        return connected(said, spec, sdk, { "roots/list": listed }, async (client) => {
            const path = `${spec.folder}/a.txt`;
            said("tools", await client.listTools());
            said("written", await call(client, "write_file", { path, content: "one\ntwo ✓\n" }));
            said("read", await call(client, "read_text_file", { path }));
            said("listed", await call(client, "list_directory", { path: spec.folder }));
            said("outside", await call(client, "read_text_file", { path: "/etc/hostname" }));
        });
    },
};

// What a client can do, by the requests that it answers.
export function capabilities(handlers) {
    const can = {};
    if (handlers["sampling/createMessage"]) can.sampling = {};
    if (handlers["elicitation/create"]) can.elicitation = {};
    if (handlers["roots/list"]) can.roots = {};
    return can;
}
