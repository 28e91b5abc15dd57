"""What makes two transcripts one, and all that may differ between them, by name."""

import json
import re
from collections import Counter
from dataclasses import dataclass

# What differs from run to run, whoever is between.
RANDOM = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
    (r"\b[0-9a-f]{32}\b", "<hex>"),
    # A state that the server sealed.
    (r"\bv1\.[A-Za-z0-9._~+/=-]{20,}", "<sealed>"),
    (r"\bevent-\d+", "<event>"),
    (r"\b2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?", "<time>"),
    (r"\b\d{1,2}:\d\d:\d\d( [AP]M)?\b", "<time>"),
    (r"127\.0\.0\.1:\d+", "<address>"),
]
# Headers of a hop, and those that frame a body.
FRAMING = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
# Those of a request that are for the gateway, and those that it sets: what it reads must not come encoded.
OF_REQUEST = FRAMING | {"accept-encoding", "x-agent-task", "x-agentledger-key"}
# What the gateway says itself: the time, its number of the exchange, and what web pages may do here.
OF_ANSWER = FRAMING | {"access-control-allow-origin", "access-control-expose-headers", "date", "x-agentledger-exchange"}
# Those by which a server is told of the protocol.
OF_PROTOCOL = re.compile(r"mcp-|accept$|content-type$|last-event-id$|traceparent$")


def plain(text):
    for pattern, said in RANDOM:
        text = re.sub(pattern, said, text)
    return text


def told(ran):
    """What a client's code saw."""
    return {name: [plain(json.dumps(line, ensure_ascii=False, sort_keys=True)) for line in said] for name, said in ran.said.items()}


def resumed(exchanges):
    """How often a stream was gone on with."""
    return sum("last-event-id" in exchange.headers for exchange in exchanges)


def received(exchanges):
    """All that a server received in content, in whichever order: requests on several connections have none. Not how often a client
    tried to go on with streams: it does so after errors and what it cancelled, too, if its end does not come first."""
    return sorted(
        plain(
            json.dumps(
                [
                    exchange.method,
                    exchange.path,
                    {name: value for name, value in sorted(exchange.headers.items()) if OF_PROTOCOL.match(name)},
                    exchange.body.decode(),
                ],
                ensure_ascii=False,
            )
        )
        for exchange in exchanges
        if "last-event-id" not in exchange.headers
    )


def without(headers, noise):
    return {name: value for name, value in headers.items() if name not in noise}


def changed(name, near, far):
    """What is not, byte for byte, on the server's side what it is on the client's: requests, answers and headers."""

    def key(exchange, is_near):
        path = exchange.path.replace(f"/mcp/{name}", "") if is_near else exchange.path
        path = path if "/sse" in path or "/message" in path else path.removeprefix("/mcp")
        told = exchange.answer
        if told.startswith(b"event: endpoint") and is_near:
            told = told.replace(f"/mcp/{name}".encode(), b"", 1)
        return exchange.method, path, without(exchange.headers, OF_REQUEST), exchange.body, told

    def order(one):
        (method, path, headers, body, answer), exchange = one
        session = exchange.answer_headers.get("mcp-session-id", [])
        return method, path, body, session, sorted(map(str, headers.items())), answer[:200]

    nears = sorted(((key(exchange, True), exchange) for exchange in near), key=order)
    fars = sorted(((key(exchange, False), exchange) for exchange in far), key=order)
    wrong = [] if len(nears) == len(fars) else [f"{len(nears)} requests here, {len(fars)} there"]
    for (mine, at_client), (theirs, at_server) in zip(nears, fars, strict=False):
        if mine[:4] != theirs[:4]:
            wrong.append(f"request: {mine[:4]} became {theirs[:4]}")
            continue
        if not at_client.status:
            # The client left without looking at it.
            continue
        if at_client.status != at_server.status:
            wrong.append(f"{mine[3]}: status {at_server.status} became {at_client.status}")
        kept, sent = without(at_client.answer_headers, OF_ANSWER), without(at_server.answer_headers, OF_ANSWER)
        if kept != sent:
            wrong.append(f"{mine[3]}: headers {sent} became {kept}")
        # A client that leaves has seen less of it.
        is_same = mine[4] == theirs[4] if at_client.is_whole else theirs[4].startswith(mine[4])
        if not is_same or (at_client.is_whole and not at_server.is_whole):
            wrong.append(f"{mine[3]}: answer {theirs[4]} became {mine[4]}")
    return wrong


def messages(exchange):
    """The messages of an answer, of JSON or of a stream's events."""
    text = exchange.answer.decode(errors="replace")
    if "text/event-stream" in exchange.answer_headers.get("content-type", [""])[0]:
        events = re.split(r"\r\n\r\n|\n\n|\r\r", text)
        datas = ["\n".join(line[5:].lstrip(" ") for line in re.split(r"\r\n|\n|\r", event) if line.startswith("data:")) for event in events]
    else:
        datas = [text]
    for data in datas:
        try:
            message = json.loads(data)
        except ValueError:
            continue
        yield from message if isinstance(message, list) else [message]


@dataclass
class Calls:
    """The tool calls that a client sent."""

    # By task and tool, all rounds of one as one.
    sent: Counter
    # How many of each task were answered with a result that is no error, and how many were not answered at all.
    well: Counter
    unanswered: Counter


def calls(near):
    sent, asked, well = Counter(), set(), Counter()
    for exchange in near:
        if exchange.method != "POST":
            continue
        message = json.loads(exchange.body)
        params = message.get("params") or {}
        if message.get("method") in ("tools/call", "tasks/result"):
            asked.add((task_of(exchange), str(message["id"])))
        if message.get("method") == "tools/call" and not ("inputResponses" in params or "requestState" in params):
            sent[task_of(exchange), params["name"]] += 1
    for exchange in near:
        for message in messages(exchange):
            key = (task_of(exchange), str(message.get("id")))
            if key not in asked or not ("result" in message or "error" in message):
                continue
            asked.discard(key)
            result = message.get("result", {"isError": True})
            goes_on = result.get("resultType") == "input_required" or "task" in result
            well[key[0]] += not goes_on and not result.get("isError")
    return Calls(sent, well, Counter(task for task, _ in asked))


def task_of(exchange):
    return exchange.headers.get("x-agent-task", [""])[0]
