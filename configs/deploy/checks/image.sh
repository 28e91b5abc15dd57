# shellcheck shell=bash
# The image: linted, its last stage built and run. For `check`, which sources it.

image() {
    local dockerfile=$here/docker/Dockerfile
    if python_tools; then
        try "image: hadolint" "$cache/venv/bin/hadolint" "$dockerfile"
        try "compose: the schema of the Compose specification" \
            "$cache/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec "$here/docker/compose.yaml"
    else
        skipped "image: hadolint, and compose's schema: PyPI is not reached"
    fi
    try "image and compose: each file they name is there" python3 "$here/checks/named.py" "$root"
    if have docker && docker info >/dev/null 2>&1; then
        skipped "image: its first stage: compiling the gateway anew takes longer than all other checks"
    else
        skipped "image: its first stage, and compose up: no Docker daemon runs here"
    fi
    needs_gateway "image: its last stage" || return 0
    is_root || { skipped "image: its last stage: only root may build one without a daemon" && return; }
    buildah_tool || { skipped "image: its last stage: no buildah (Debian's package)" && return; }
    tree base extract base-files libc6 libgcc-s1 libstdc++6 ca-certificates tzdata netbase ||
        { skipped "image: its last stage: Debian's packages are not reached" && return; }
    try "image: its last stage, built by buildah over a stand-in of its base, of the same Debian packages" build_image || return 0
    try "image: what it says of itself" python3 "$here/checks/image.py" <(buildah inspect --type image agentledger:check)
    have unshare && have ip || { skipped "image: run: no unshare, or no ip" && return; }
    local container
    container=$(buildah from --pull-never --signature-policy "$policy" agentledger:check) && mounted=$(buildah mount "$container")
    # A network of its own, whose port 8787 is nobody else's.
    try "image: run as its user with a read-only root: healthy, scraped, ends in order" \
        unshare --net --mount --pid --fork --kill-child "$here/checks/run-image" "$mounted"
}

build_image() {
    local base=$scratch/base made
    policy=$scratch/policy.json
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$policy"
    mkdir -p "$base" "$scratch/built/out/usr/bin" "$scratch/built/out/etc/agentledger" "$scratch/built/out/var/lib/agentledger"
    tar -C "$base" -xf "$cache/base.tar" || return 1
    # What maintainer scripts would have made.
    mkdir -p "$base/etc/ssl/certs" "$base/home/nonroot" "$base/tmp"
    chmod 1777 "$base/tmp"
    cat "$base"/usr/share/ca-certificates/mozilla/*.crt >"$base/etc/ssl/certs/ca-certificates.crt"
    printf 'root:x:0:0::/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n' >"$base/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"$base/etc/group"
    made=$(buildah from --signature-policy "$policy" scratch) && buildah copy -q "$made" "$base" / &&
        buildah config --user 65532 "$made" && buildah commit -q --signature-policy "$policy" "$made" gcr.io/distroless/cc-debian12:nonroot || return 1
    # In the place of the first stage: what it would have made.
    strip --strip-all -o "$scratch/built/out/usr/bin/agentledger" "$gateway" || return 1
    cp "$here/docker/agentledger.yaml" "$scratch/built/out/etc/agentledger/"
    buildah build --signature-policy "$policy" --pull-never --format docker --build-context build="$scratch/built" \
        -f "$here/docker/Dockerfile" -t agentledger:check "$root"
}
