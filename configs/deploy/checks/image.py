"""image.py FILE: whether an image, as `buildah inspect` tells it, runs without root, has a health check and keeps its ledger."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    config = json.load(file)["Docker"]["config"]
environment = dict(pair.split("=", 1) for pair in config["Env"])
expected = {
    "user": (config["User"], "65532:65532"),
    "volume": (list(config["Volumes"]), ["/var/lib/agentledger"]),
    "port": (list(config["ExposedPorts"]), ["8787/tcp"]),
    "command": (config["Entrypoint"] + config["Cmd"], ["/usr/bin/agentledger", "serve"]),
    "health": (config["Healthcheck"]["Test"][:3], ["CMD", "/usr/bin/agentledger", "healthcheck"]),
    "configuration": (environment["AGENTLEDGER_CONFIG"], "/etc/agentledger/agentledger.yaml"),
}
faults = [f"{what}: {have!r} in the place of {want!r}" for what, (have, want) in expected.items() if have != want]
sys.exit("\n".join(faults) or 0)
