import Anthropic from "@anthropic-ai/sdk";
import { end, headers, model, prompt, say, shell } from "./program.mjs";

const client = new Anthropic({ defaultHeaders: headers });

await end(async () => {
  const { name, description, schema, run } = shell;
  const runner = client.beta.messages.toolRunner({
    model,
    max_tokens: 8_000,
    messages: [{ role: "user", content: prompt }],
    tools: [{ name, description, input_schema: schema, run, parse: (input) => input }],
    stream: true,
  });
  for await (const stream of runner) {
    for await (const event of stream) {
      if (event.type === "content_block_delta" && event.delta.type === "text_delta") say(event.delta.text);
    }
  }
});
