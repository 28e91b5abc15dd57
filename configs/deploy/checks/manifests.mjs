// manifests.mjs FILE…: objects as Kubernetes' own schemas have them, and no field that they do not know.
// manifests.mjs --parts DEPLOY OUT FILE…: what one object says of another is so; writes the configuration of each file's gateway to OUT.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import * as YAML from "yaml";

// Not Kubernetes' own: the Prometheus operator's.
const FOREIGN = "monitoring.coreos.com/v1";
const faults = [];
const objects = (file) => YAML.parseAllDocuments(readFileSync(file, "utf8")).map((doc) => doc.toJS()).filter(Boolean);

async function validate(file) {
    let seen = 0;
    for (const object of objects(file)) {
        if (object.apiVersion === FOREIGN) continue;
        const path = object.apiVersion.includes("/") ? object.apiVersion : object.apiVersion;
        const module = await import(`kubernetes-models/${path}/${object.kind}`);
        const Model = (module.default ?? module)[object.kind] ?? module[object.kind];
        const name = `${basename(file)}: ${object.kind} ${object.metadata.name}`;
        try {
            new Model(object).validate();
            seen += 1;
        } catch (error) {
            faults.push(`${name}: ${error.message}`);
        }
    }
    if (seen < 4) faults.push(`${file}: only ${seen} objects`);
}

function parts(file, deploy, out) {
    const all = objects(file);
    const of = (kind) => all.filter((object) => object.kind === kind);
    const need = (holds, what) => holds || faults.push(`${basename(file)}: ${what}`);
    const [set] = of("StatefulSet");
    const [service] = of("Service");
    const pod = set.spec.template;
    const [container] = pod.spec.containers;
    const selects = (selector) => Object.entries(selector).every(([key, value]) => pod.metadata.labels[key] === value);
    need(set.spec.replicas === 1, "not one replica");
    need(selects(set.spec.selector.matchLabels) && selects(service.spec.selector), "a selector does not find the pod");
    need(set.spec.serviceName === service.metadata.name, "the set names another service");
    const ports = container.ports.map((port) => port.name);
    for (const probe of ["startupProbe", "livenessProbe", "readinessProbe"]) need(ports.includes(container[probe].httpGet.port), `${probe} asks no port of its`);
    need(container.readinessProbe.httpGet.path === "/readyz" && container.livenessProbe.httpGet.path === "/healthz", "a probe asks elsewhere");
    const context = { ...pod.spec.securityContext, ...container.securityContext };
    need(context.runAsNonRoot && context.readOnlyRootFilesystem && context.allowPrivilegeEscalation === false, "it may too much");
    need(isDeepStrictEqual(context.capabilities, { drop: ["ALL"] }), "it has capabilities");
    const volumes = [...pod.spec.volumes, ...(set.spec.volumeClaimTemplates ?? []).map((claim) => claim.metadata)].map((volume) => volume.name);
    for (const mount of container.volumeMounts) {
        need(volumes.includes(mount.name), `no volume ${mount.name}`);
        need(mount.subPath === undefined, `${mount.mountPath} is mounted by itself, and not updated`);
    }
    const maps = Object.fromEntries(of("ConfigMap").map((map) => [map.metadata.name, map.data]));
    const folder = join(out, basename(file, ".yaml"));
    mkdirSync(join(folder, "policies"), { recursive: true });
    for (const { configMap } of pod.spec.volumes.find((volume) => volume.name === "config").projected.sources) {
        const data = maps[configMap.name];
        need(data, `no ConfigMap ${configMap.name}`);
        const items = configMap.items ?? Object.keys(data ?? {}).map((key) => ({ key, path: key }));
        for (const { key, path } of items) writeFileSync(join(folder, path), data[key]);
    }
    const [claims] = set.spec.volumeClaimTemplates ?? [];
    const claimed = pod.spec.volumes.some((volume) => volume.persistentVolumeClaim);
    need(Boolean(claims) !== claimed, "the ledger has not one volume");
    for (const rule of of("PrometheusRule")) need(isDeepStrictEqual(rule.spec, YAML.parse(readFileSync(join(deploy, "prometheus/alerts.yml"), "utf8"))), "its rules are others");
    const board = Object.values(maps).find((data) => data["agentledger.json"]);
    if (board) need(isDeepStrictEqual(JSON.parse(board["agentledger.json"]), JSON.parse(readFileSync(join(deploy, "grafana/agentledger.json"), "utf8"))), "its board is another");
    if (basename(file) === "full.yaml") {
        need(board && of("PrometheusRule").length === 1 && of("Ingress").length === 1, "not everything is on");
        need(maps[service.metadata.name]["agentledger.yaml"].includes("llm.example.com"), "the ingress's name is none of the hosts");
    }
}

const [first, ...rest] = process.argv.slice(2);
if (first === "--parts") {
    const [deploy, out, ...files] = rest;
    files.forEach((file) => parts(file, deploy, out));
} else {
    for (const file of [first, ...rest]) await validate(file);
}
console.log(faults.join("\n"));
process.exit(faults.length ? 1 : 0);
