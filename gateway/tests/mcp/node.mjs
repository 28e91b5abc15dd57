// Loaded before a client or the conformance suite (`node --import`): packages are found in MCP_NODE, which is outside the checkout; and
// the suite, which wants node 22, finds in an older one what it only lacks for checks of repositories.
import { register } from "node:module";
import { pathToFileURL } from "node:url";

const packages = pathToFileURL(`${process.env.MCP_NODE}/_`).href;
const hooks = `
const isBare = (name) => !/^(\\.|\\/|[a-z]+:)/.test(name);
export const resolve = (name, context, next) => {
    const from = context.parentURL ?? "";
    if (name === "fs" && from.includes("/conformance/")) return { url: "fuller:fs", shortCircuit: true };
    return next(name, isBare(name) && !from.includes("/node_modules/") ? { ...context, parentURL: ${JSON.stringify(packages)} } : context);
};
const fs = 'import * as fs from "node:fs"; export * from "node:fs"; export default fs.default;' +
    "export const globSync = fs.globSync ?? (() => []);";
export const load = (url, context, next) =>
    url === "fuller:fs" ? { format: "module", shortCircuit: true, source: fs } : next(url, context);
`;
register("data:text/javascript," + encodeURIComponent(hooks));
