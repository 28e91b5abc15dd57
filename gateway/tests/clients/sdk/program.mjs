// What every program here is: `node program.mjs DIALECT PROMPT` asks its SDK for a stream, prints the text as it comes, and ends as a
// program does whose SDK throws: the error's own text on stderr, exit code 1. The SDK's own variables point it to its base URL.
import { execSync } from "node:child_process";

export const [dialect, prompt] = process.argv.slice(2);
export const model = process.env.MODEL;
export const headers = process.env.SESSION ? { "X-Agent-Session": process.env.SESSION } : {};

export const shell = {
  name: "run_shell_command",
  description: "Runs a shell command and gives what it prints.",
  schema: {
    type: "object",
    properties: { command: { type: "string" }, description: { type: "string" } },
    required: ["command", "description"],
    additionalProperties: false,
  },
  run: ({ command }) => execSync(command, { timeout: 60_000 }).toString(),
};

export const say = (text) => process.stdout.write(text ?? "");

export async function end(program) {
  try {
    await program();
  } catch (error) {
    console.error(`\n${error.name}: ${error.message}`);
    process.exitCode = 1;
  }
}
