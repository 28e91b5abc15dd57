# shellcheck shell=bash
# What runs within the small Debian is expanded there.
# shellcheck disable=SC2016
# The .deb: built, installed in a small Debian, its service run by that Debian's own systemd, removed, purged. For `check`.

package() {
    needs_gateway "package" || return 0
    have dpkg-deb || { skipped "package: no dpkg-deb here" && return; }
    local deb=$scratch/agentledger.deb
    strip --strip-all -o "$scratch/agentledger" "$gateway"
    try "package: debian/build" env AGENTLEDGER_DEB_COMPRESSION=none "$here/debian/build" "$scratch/agentledger" "$deb" || return 0
    try "package: it has what cargo-deb would put there" python3 "$here/checks/deb.py" "$deb" "$root/gateway/Cargo.toml" || return 0
    if have cargo-deb; then
        try "package: cargo-deb packs the same" cargo_deb "$scratch/cargo.deb"
    else
        skipped "package: cargo-deb packs the same: it is not installed (cargo install --locked cargo-deb)"
    fi
    skipped "package: lintian: it would bring 128 packages"
    is_root && have unshare && have nsenter || { skipped "package: installed: that takes root, unshare and nsenter" && return; }
    tree debian minbase adduser ca-certificates systemd init-system-helpers ||
        { skipped "package: installed: Debian's packages are not reached" && return; }
    local tree=$scratch/debian group=/sys/fs/cgroup/agentledger-check.$$
    [ ! -d /sys/fs/cgroup/unified ] || group=/sys/fs/cgroup/unified/agentledger-check.$$
    mkdir -p "$tree" && tar -C "$tree" -xf "$cache/debian.tar"
    cp "$deb" "$tree/root/agentledger.deb"
    # A group of its own, so that its systemd is no ruler over this machine's.
    mkdir "$group" 2>/dev/null || { skipped "package: installed: no cgroup of its own can be made" && return; }
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec unshare --mount --pid --fork --cgroup --uts --ipc --net --kill-child "$here/checks/boot" "$tree"
    ) >"$scratch/boot.log" 2>&1 &
    booted=$!
    system=
    for _ in $(seq 50); do
        system=$(pgrep -P "$booted" -x systemd) && break
        sleep 0.2
    done
    if [ -z "$system" ] || ! inside_debian sh -c 'for i in $(seq 60); do systemctl is-system-running >/dev/null 2>&1 && exit; sleep 0.5; done; exit 1'; then
        skipped "package: installed: systemd does not start in namespaces here: $(tail -n1 "$scratch/boot.log")"
    else
        service_life
    fi
    kill -KILL "$booted" "$system" 2>/dev/null
    wait "$booted" 2>/dev/null
    for _ in $(seq 50); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$group" ] || break
        sleep 0.1
    done
}

cargo_deb() {
    install -D "$scratch/agentledger" "$scratch/target/release/agentledger"
    "$here/stage" "$scratch/agentledger" "$root/target/dist" &&
        (cd "$root" && CARGO_TARGET_DIR=$scratch/target cargo deb --offline --no-build --no-strip --fast -p agentledger --output "$1") &&
        python3 "$here/checks/deb.py" "$1" "$root/gateway/Cargo.toml"
}

inside_debian() {
    nsenter --target "$system" --mount --pid --cgroup --uts --ipc --net --root --wd -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}
# `!` hides a failure from `sh -e`, so what must not be so is said by `no`.
installed() { try "package: $1" inside_debian sh -euc 'no() { if "$@"; then echo "still so: $*"; exit 1; fi; }'"
$2"; }

service_life() {
    installed "installed by dpkg, which enables and starts the service" 'dpkg -i /root/agentledger.deb; systemctl is-enabled agentledger' || return 0
    # A binary that was not optimised compiles its plugins for a while.
    installed "healthy, as its own user, in the folders that it has alone" '
        for i in $(seq 120); do agentledger healthcheck --addr 127.0.0.1:8787 2>/dev/null && break; sleep 0.5; done
        agentledger healthcheck --addr 127.0.0.1:8787
        [ "$(stat -c %U /proc/$(systemctl show --value -p MainPID agentledger))" = agentledger ]
        [ "$(stat -c %a:%U /var/lib/agentledger /var/cache/agentledger /run/agentledger | sort -u)" = 700:agentledger ]
        [ "$(stat -c %a:%U:%G /etc/agentledger)" = 750:root:agentledger ]
        test -d /var/lib/agentledger/ledger/journal && ls -d /var/cache/agentledger/plugins/*'
    installed "commands of root and of its user find it" 'agentledger status | grep control_socket; runuser -u agentledger -- agentledger verify | grep OK'
    installed "reload puts a changed file in force" '
        sed -i "s/daily_limit_usd: 10/daily_limit_usd: 7/" /etc/agentledger/agentledger.yaml; systemctl reload agentledger
        for i in $(seq 40); do journalctl -u agentledger | grep -q "new rules are in force" && break; sleep 0.25; done
        journalctl -u agentledger | grep "new rules are in force"; systemctl is-active agentledger'
    installed "killed, it is started again" '
        before=$(systemctl show --value -p MainPID agentledger); kill -KILL "$before"
        for i in $(seq 120); do agentledger healthcheck --addr 127.0.0.1:8787 2>/dev/null && break; sleep 0.5; done
        agentledger healthcheck --addr 127.0.0.1:8787; [ "$(systemctl show --value -p MainPID agentledger)" != "$before" ]'
    installed "an upgrade restarts it and keeps the changed configuration" '
        before=$(systemctl show --value -p MainPID agentledger); dpkg --force-confold -i /root/agentledger.deb
        for i in $(seq 120); do agentledger healthcheck --addr 127.0.0.1:8787 2>/dev/null && break; sleep 0.5; done
        agentledger healthcheck --addr 127.0.0.1:8787; [ "$(systemctl show --value -p MainPID agentledger)" != "$before" ]
        grep "daily_limit_usd: 7" /etc/agentledger/agentledger.yaml'
    installed "manual pages and completions are where they are looked for" '
        dpkg -L agentledger | grep -x /usr/share/man/man1/agentledger.1.gz; dpkg -L agentledger | grep -x /usr/share/man/man1/agentledger-costs.1.gz
        bash -n /usr/share/bash-completion/completions/agentledger'
    installed "removed, it ends in order and keeps the ledger" '
        dpkg -r agentledger; journalctl -u agentledger | grep "everything is settled"; no test -e /usr/bin/agentledger
        test -d /var/lib/agentledger/ledger && test -s /etc/agentledger/agentledger.yaml'
    installed "purged, nothing of it is left" '
        dpkg -P agentledger; no getent passwd agentledger; no getent group agentledger
        left=$(find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /tmp \) -prune -o -name "*agentledger*" -print); echo "$left"; [ -z "$left" ]'
}
