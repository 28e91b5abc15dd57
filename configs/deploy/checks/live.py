"""live.py GATEWAY PROMETHEUS ROOT: a gateway under a little traffic, and a Prometheus with our configuration that scrapes it. Each query
of the board is answered, and finds something unless it shows failures that did not happen; each alert is evaluated, and the one fires
whose cause is made here."""

import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

gateway, prometheus, root = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
deploy = root / "configs/deploy"

# What has nothing to show while all is well.
QUIET = {
    "Above what was held, an hour",
    "Differs from what providers say, an hour",
    "Breakers",
    "Entered as estimates",
    "How they ended",
    "Plugins that failed",
    "Tool calls a second",
    "Policies",
    "Last backup's age",
}

CONFIG = """
listen: "127.0.0.1:{port}"
storage: {{ driver: sled, dsn: "{scratch}/ledger" }}
providers:
  openai: {{ upstream: "http://127.0.0.1:{upstream}" }}
  anthropic: {{ upstream: "http://127.0.0.1:9" }}
budgets:
  default: {{ daily_limit_usd: 1000, action: block }}
  rules: [{{ api_key_pattern: "sk-poor*", daily_limit_usd: 0.0001, action: block }}]
rate_limits: {{ rules: [{{ api_key_pattern: "sk-quick*", requests_per_minute: 1 }}] }}
agent: {{ loop_threshold: 2, loop_action: warn }}
policies: {{ dir: "{scratch}/policies", conf: {{ failing: {{ mode: shadow }} }} }}
"""
# Fails whenever it is asked, in shadow: nobody notices but the metrics.
FAILING = 'return { name = "failing", version = "1", request = function(conf, call) return call.nothing.at_all end }\n'


STARTED = []


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def ask(port, path, body=None, key=None):
    headers = {"Content-Type": "application/json", "X-Agent-Id": "check", "X-Agent-Session": "s1"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def until(what, holds, seconds=60):
    end = time.monotonic() + seconds
    while not (found := holds()):
        dead = [process.args[0] for process in STARTED if process.poll() is not None]
        if dead:
            sys.exit(f"{dead} ended")
        if time.monotonic() > end:
            sys.exit(f"waited {seconds} s in vain for {what}")
        time.sleep(0.2)
    return found


def traffic(port):
    chat = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello?"}]}
    statuses = []
    for key, body in [
        ("sk-plain-0123456789", chat),
        ("sk-plain-0123456789", chat | {"stream": True}),
        ("sk-poor-0123456789", chat),
        ("sk-quick-0123456789", chat),
    ]:
        statuses.append(ask(port, "/v1/chat/completions", body, key)[0])
    claude = {"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello?"}]}
    statuses.append(ask(port, "/v1/messages", claude, "sk-ant-0123456789")[0])
    return statuses


def queries():
    board = json.loads((deploy / "grafana/agentledger.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "5s").replace("$instance", ".*").replace("$provider", ".*")
            yield panel["title"], text


def query(port, text):
    status, answer = ask(port, "/api/v1/query?" + urllib.parse.urlencode({"query": text}))
    if status != 200:
        return [f"not answered: {answer.decode()[:300]}"], []
    rows = json.loads(answer)["data"]["result"]
    return [], [row for row in rows if row["value"][1] != "NaN"]


def alerts(port):
    groups = json.loads(ask(port, "/api/v1/rules")[1])["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def watch(scratch, port, upstream):
    """The board and the alerts, while traffic runs."""
    (scratch / "policies").mkdir()
    (scratch / "policies/failing.lua").write_text(FAILING)
    config = CONFIG.format(port=port, upstream=upstream, scratch=scratch)
    (scratch / "agentledger.yaml").write_text(config)
    with open(scratch / "gateway.log", "wb") as log:
        STARTED.append(subprocess.Popen([gateway, "serve", "-c", scratch / "agentledger.yaml"], stderr=log))
    until("the gateway", lambda: ask(port, "/readyz")[0] == 200, 120)

    text = (deploy / "prometheus/prometheus.yml").read_text()
    for old, new in [("gateway:8787", f"127.0.0.1:{port}"), ("_interval: 15s", "_interval: 1s"), ("- alerts.yml", f"- {deploy}/prometheus/alerts.yml")]:
        assert old in text, f"prometheus.yml has no {old}"
        text = text.replace(old, new)
    (scratch / "prometheus.yml").write_text(text.replace("global:", "global:\n  scrape_timeout: 1s"))
    shown = free_port()
    arguments = [f"--config.file={scratch}/prometheus.yml", f"--storage.tsdb.path={scratch}/tsdb", f"--web.listen-address=127.0.0.1:{shown}"]
    with open(scratch / "prometheus.log", "wb") as log:
        STARTED.append(subprocess.Popen([prometheus, *arguments], stderr=log, stdout=log))
    until("Prometheus", lambda: ask(shown, "/-/ready")[0] == 200)

    faults, empty = set(), dict.fromkeys(queries())
    end = time.monotonic() + 90
    while empty and time.monotonic() < end:
        statuses = traffic(port)
        # Who sends a refused request again is refused for good, with 400.
        assert statuses[0] == statuses[1] == 200 and statuses[2] in (429, 400), statuses
        time.sleep(0.5)
        for title, text in list(empty):
            wrong, rows = query(shown, text)
            faults.update(f"{title}: {fault}" for fault in wrong)
            if rows or wrong:
                empty.pop((title, text))
        if all(title in QUIET for title, _ in empty):
            break
    faults.update(f"{title} shows nothing: {text}" for title, text in empty if title not in QUIET)
    ran = until("the alerts", lambda: (rules := alerts(shown)) and all(rule["lastEvaluation"] > "0002" for rule in rules.values()) and rules)
    faults.update(f"{name} is {rule['health']}: {rule.get('lastError')}" for name, rule in ran.items() if rule["health"] != "ok")
    named = set(re.findall(r"(?m)^      - alert: (\w+)", (deploy / "prometheus/alerts.yml").read_text()))
    faults.update(f"{name} is not evaluated" for name in named - set(ran))
    # Of all that page at once, only the policy that was made to fail may.
    now = {name for name, rule in ran.items() if rule["state"] == "firing" and rule["labels"]["severity"] == "page"}
    if now != {"AgentLedgerPolicyErrors"}:
        faults.add(f"these page: {sorted(now)}")
    return faults


def main():
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        try:
            STARTED.append(subprocess.Popen([sys.executable, root / "examples/quickstart/upstream.py", scratch / "port"]))
            written = until("the provider", lambda: (scratch / "port").exists() and (scratch / "port").read_text())
            faults = watch(scratch, free_port(), int(written))
        finally:
            for process in reversed(STARTED):
                process.terminate()
            for process in STARTED:
                process.wait()
            if (scratch / "gateway.log").exists() and sys.exc_info()[0]:
                print((scratch / "gateway.log").read_text()[-4000:])
    sys.exit("\n".join(sorted(faults)) or 0)


main()
