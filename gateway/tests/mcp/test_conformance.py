"""The official conformance suite (npm `@modelcontextprotocol/conformance`) finds no difference between a server and the same server
behind the gateway, in both eras; nor between a client and the same client before it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import transcript
from gateway import Gateway
from transports import HERE, NODE, HttpThrough, Server

SUITE = ["node", "--no-warnings", "--import", os.path.join(HERE, "node.mjs"), os.path.join(NODE, "@modelcontextprotocol/conformance/dist/index.js")]
# The newest revision of either era.
REVISIONS = ["2025-11-25", "2026-07-28"]
# As many checks as the suite has for a server of each: that it looked at it at all.
CHECKS_MIN = {"2025-11-25": 80, "2026-07-28": 140}
GUARD_SECS = 300
# Of the clients' scenarios those that the gateway has a part in: what it reads, what it leads elsewhere. The others are of what a client
# does by itself, or of what passes between it and an authorization server.
SCENARIOS = {
    "2025-11-25": ["sse-retry", "auth/metadata-var2", "auth/scope-step-up"],
    "2026-07-28": [
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "auth/metadata-default",
        "auth/resource-mismatch",
    ],
}
# The gateway is the resource that a client logs in to, so that it names another than the suite's server says of itself.
DIFFERENT = ["resource-parameter-matches-prm"]


def checks(args, output):
    """What the suite found, scenario by scenario."""
    ran = subprocess.run([*SUITE, *args, "--output-dir", output], capture_output=True, text=True, timeout=GUARD_SECS)
    found = {}
    for folder, _, files in os.walk(output):
        if "checks.json" in files:
            scenario = re.match(r"(?:server-)?(.*)-2\d{3}-\d\d-\d\dT", os.path.relpath(folder, output))[1]
            with open(os.path.join(folder, "checks.json")) as file:
                found[scenario] = [result(check) for check in json.load(file)]
    assert found, f"the suite found nothing:\n{ran.stdout}{ran.stderr}"
    return found


def result(check):
    said = [check["id"], check["description"], check["status"], check.get("errorMessage")]
    return [transcript.plain(str(word)) for word in said]


def same(found):
    """What has to be the same before the gateway: not in which order the suite heard of requests that ran side by side."""
    judged = {scenario: [check for check in results if check[2] != "INFO"] for scenario, results in found.items()}
    return {scenario: sorted(check for check in results if check[0] not in DIFFERENT) for scenario, results in judged.items()}


def failing(found):
    return [(scenario, check) for scenario, results in found.items() for check in results if check[2] == "FAILURE"]


class Servers(unittest.TestCase):
    maxDiff = None

    def test_a_server_is_the_same_behind_the_gateway(self):
        # A server for each run: what one client changes, another is told of.
        direct, behind = Server("conformant"), Server("conformant")
        for server in (direct, behind):
            self.addCleanup(server.stop)
        through = HttpThrough("conformant", behind)
        gateway = Gateway("http://127.0.0.1:9", {"mcp": {"servers": {"conformant": through.configured()}}})
        self.addCleanup(gateway.remove)
        folder = tempfile.mkdtemp(prefix="al-conformance-")
        self.addCleanup(shutil.rmtree, folder)
        urls = {"direct": f"http://127.0.0.1:{direct.ready().port}/mcp", "through": f"{gateway.url}/mcp/conformant"}
        behind.ready()

        def ran(way):
            found = {}
            for revision in REVISIONS:
                output = os.path.join(folder, f"{way}-{revision}")
                found[revision] = checks(["server", "--url", urls[way], "--suite", "all", "--spec-version", revision], output)
            return found

        with ThreadPoolExecutor(2) as pool:
            direct, through = pool.map(ran, ["direct", "through"])
        for revision in REVISIONS:
            with self.subTest(revision=revision):
                self.assertEqual(failing(direct[revision]), [])
                self.assertGreaterEqual(sum(map(len, direct[revision].values())), CHECKS_MIN[revision])
                self.assertEqual(through[revision], direct[revision])


class Clients(unittest.TestCase):
    """The suite is the server, and judges by what reaches it of the SDK's client."""

    maxDiff = None

    def test_a_client_is_the_same_before_the_gateway(self):
        folder = tempfile.mkdtemp(prefix="al-conformance-")
        self.addCleanup(shutil.rmtree, folder)
        node = ["node", "--no-warnings", "--import", os.path.join(HERE, "node.mjs")]
        ways = {
            "direct": [*node, os.path.join(HERE, "clients", "conformant.mjs")],
            "through": [sys.executable, os.path.join(HERE, "led.py")],
        }

        def ran(way, revision, scenario):
            output = os.path.join(folder, f"{way}-{revision}-{scenario.replace('/', '-')}")
            args = ["client", "--command", " ".join(ways[way]), "--scenario", scenario, "--spec-version", revision]
            return checks(args, output)

        cases = [(revision, scenario) for revision in REVISIONS for scenario in SCENARIOS[revision]]
        with ThreadPoolExecutor(4) as pool:
            found = {case: [pool.submit(ran, way, *case) for way in ways] for case in cases}
            for case, both in found.items():
                with self.subTest(case=case):
                    direct, through = (one.result() for one in both)
                    self.assertEqual(failing(direct), [])
                    self.assertEqual(same(through), same(direct))


if __name__ == "__main__":
    unittest.main()
