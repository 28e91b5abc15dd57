import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { jsonSchema, stepCountIs, streamText, tool } from "ai";
import { dialect, end, headers, model, prompt, say, shell } from "./program.mjs";

const models = {
  chat: () => createOpenAI({ headers }).chat(model),
  responses: () => createOpenAI({ headers }).responses(model),
  messages: () => createAnthropic({ headers })(model),
};

await end(async () => {
  const { name, description, schema, run } = shell;
  const answer = streamText({
    model: models[dialect](),
    prompt,
    tools: { [name]: tool({ description, inputSchema: jsonSchema(schema), execute: run }) },
    stopWhen: stepCountIs(200),
    onError: () => {}, // it prints the error else, and goes on
  });
  for await (const part of answer.fullStream) {
    if (part.type === "text-delta") say(part.text);
    if (part.type === "error") throw part.error;
  }
});
