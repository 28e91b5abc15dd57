import OpenAI from "openai";
import { dialect, end, headers, model, prompt, say, shell } from "./program.mjs";

const client = new OpenAI({ defaultHeaders: headers });

async function chat() {
  const { name, description, schema, run } = shell;
  const runner = client.chat.completions.runTools(
    {
      model,
      messages: [{ role: "user", content: prompt }],
      tools: [{ type: "function", function: { name, description, parameters: schema, parse: JSON.parse, function: run } }],
      stream: true,
    },
    { maxChatCompletions: 200 },
  );
  runner.on("content", say);
  await runner.done();
}

async function responses() {
  for await (const event of await client.responses.create({ model, input: prompt, stream: true })) {
    if (event.type === "response.output_text.delta") say(event.delta);
    // An event and no exception in this SDK.
    if (event.type === "response.failed") throw new Error(`the response failed: ${event.response.error.code}: ${event.response.error.message}`);
  }
}

await end({ chat, responses }[dialect]);
