"""The official SDKs of both eras against real servers: each scenario once direct and once through the gateway. What the client's code
sees, what the server receives, each byte that passes, and the books."""

import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import transcript
from gateway import Gateway
from transports import HttpDirect, HttpThrough, Server

PRICE = Decimal("0.01")
# What every server here can do, and what some.
COMMON = ["tools", "resources", "prompts", "progress", "sampling", "elicitation", "cancellation"]
OURS = [*COMMON, "roots", "logging", "resume"]
SCENARIOS = {
    # It asks for roots by a timer of its own, too, so that nobody knows how often.
    "everything": [*COMMON, "subscription"],
    "everything-sse": [*COMMON, "subscription"],
    "fast1": [*OURS, "subscription"],
    "two": [*OURS, "subscription"],
    "fast4": OURS,
}
# Which client meets which servers. The newer clients meet older servers, too: they ask which era it is, and fall back.
PAIRS = {
    "py1": ["everything", "everything-sse", "fast1", "fast4"],
    "py2": ["everything", "two", "fast4"],
    "ts1": ["everything", "everything-sse", "fast1", "fast4"],
    "ts2": ["everything", "two", "fast4"],
}
# Tasks are of 2025-11-25, and the client of then has them.
MORE = {("ts1", "everything"): ["task"]}


class Sdks(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.servers = {kind: Server(kind) for kind in SCENARIOS}
        for server in cls.servers.values():
            cls.addClassCleanup(server.stop)
        cls.pairs = {f"{who}-{kind}": (who, kind) for who, kinds in PAIRS.items() for kind in kinds}
        cls.direct = {name: HttpDirect(name, cls.servers[kind]) for name, (_, kind) in cls.pairs.items()}
        cls.through = {name: HttpThrough(name, cls.servers[kind]) for name, (_, kind) in cls.pairs.items()}
        config = {
            "servers": {name: way.configured() for name, way in cls.through.items()},
            "pricing": [{"server": name, "cost_per_call": float(PRICE)} for name in cls.pairs],
        }
        cls.gateway = Gateway("http://127.0.0.1:9", {"mcp": config})
        cls.addClassCleanup(cls.gateway.remove)
        for server in cls.servers.values():
            server.ready()
        with ThreadPoolExecutor(4) as pool:
            running = {name: pool.submit(cls._both, name) for name in cls.pairs}
        cls.ran = {name: both.result() for name, both in running.items()}
        # All answers have come: what is held now, nobody will answer.
        cls.entries = cls.gateway.entries(provider="mcp")

    @classmethod
    def _both(cls, name):
        who, kind = cls.pairs[name]
        scenarios = SCENARIOS[kind] + MORE.get((who, kind), [])
        return cls.direct[name].run(who, scenarios), cls.through[name].run(who, scenarios, cls.gateway)

    def test_scenarios_end_well(self):
        for name, (direct, _) in self.ran.items():
            with self.subTest(pair=name):
                for scenario, said in direct.said.items():
                    with self.subTest(pair=name, scenario=scenario):
                        self.assertNotIn("broke off", [what for what, _ in said], said)

    def test_clients_see_the_same(self):
        for name, (direct, through) in self.ran.items():
            with self.subTest(pair=name):
                seen = transcript.told(through)
                for scenario, said in transcript.told(direct).items():
                    with self.subTest(pair=name, scenario=scenario):
                        self.assertEqual(said, seen[scenario])

    def test_servers_receive_the_same(self):
        for name, (direct, through) in self.ran.items():
            with self.subTest(pair=name):
                wanted, got = (Counter(transcript.received(ran.far)) for ran in (direct, through))
                self.assertEqual((list((wanted - got).elements()), list((got - wanted).elements())), ([], []))
                if "resume" in direct.said:
                    self.assertGreater(min(transcript.resumed(direct.far), transcript.resumed(through.far)), 0)

    def test_every_byte_passes_as_it_is(self):
        for name, (_, through) in self.ran.items():
            with self.subTest(pair=name):
                self.assertGreater(len(through.near), 0)
                self.assertEqual(transcript.changed(name, through.near, through.far), [])

    def test_the_books_have_each_call_once(self):
        for name, (_, through) in self.ran.items():
            with self.subTest(pair=name):
                calls = transcript.calls(through.near)
                entries = [entry for entry in self.entries if entry["task"].split("/")[0] == name]
                self.assertEqual(Counter((entry["task"], entry["tags"]["tool"]) for entry in entries), calls.sent)
                for task in {task for task, _ in calls.sent}:
                    with self.subTest(task=task):
                        of_task = [entry for entry in entries if entry["task"] == task]
                        # What nobody answered is spent, as far as anybody knows: it was cancelled.
                        given_up = [entry for entry in of_task if entry["outcome"] == "client_gone"]
                        self.assertEqual(len(given_up), calls.unanswered[task])
                        self.assertTrue(all(entry["estimated"] == (entry in given_up) for entry in of_task))
                        spent = sum(Decimal(entry["cost_usd"]) for entry in of_task)
                        self.assertEqual(spent, PRICE * (calls.well[task] + len(given_up)))


if __name__ == "__main__":
    unittest.main()
