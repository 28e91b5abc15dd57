import { GoogleGenAI } from "@google/genai";
import { end, headers, model, prompt, say } from "./program.mjs";

const client = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY, httpOptions: { headers } });

await end(async () => {
  for await (const chunk of await client.models.generateContentStream({ model, contents: prompt })) say(chunk.text);
});
