"""The client of the Python SDK 2.x, in the era that its server is of. `py2.py SPEC`: see `said.run`."""

import json
import sys
from contextlib import asynccontextmanager

import anyio
import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from said import run

ROOTS = [types.Root(uri="file:///work/one", name="one"), types.Root(uri="file:///work/two", name="two")]


@asynccontextmanager
async def target(spec, scenario):
    if spec["transport"] == "stdio":
        command, *args = spec["command"]
        yield StdioServerParameters(command=command, args=args, env=spec["env"])
        return
    headers = dict(spec["headers"])
    if "X-Agent-Task" in headers:
        headers["X-Agent-Task"] += f"/{scenario}"
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        yield streamable_http_client(spec["url"], http_client=http)


@asynccontextmanager
async def connected(said, spec, scenario, **callbacks):
    notes_in, notes = anyio.create_memory_object_stream(1000)

    async def heard(message):
        if isinstance(message, types.ServerNotification):
            await notes_in.send(message)

    async with target(spec, scenario) as server:
        async with Client(server, message_handler=heard, cache=None, **callbacks) as client:
            said("connected", [client.protocol_version, client.server_info, client.server_capabilities, client.instructions])
            client.notes = notes
            yield client


def is_modern(client):
    return client.protocol_version >= "2026-07-28"


async def noted(client, kind):
    """The next notification of a kind."""
    with anyio.fail_after(20):
        async for note in client.notes:
            if isinstance(note, kind):
                return note


async def tools(said, spec, name):
    async with connected(said, spec, name) as client:
        said("tools", await client.list_tools())
        said("echo", await client.call_tool("echo", {"message": "ünïcödé ✓ \"quoted\" \\ \u2028"}))
        said("sum", await client.call_tool("get-sum", {"a": 2, "b": 3}))
        await said.failing("wrong arguments", client.call_tool("get-sum", {"a": "two"}))
        await said.failing("no such tool", client.call_tool("no-such-tool", {}))
        said("long", await client.call_tool("echo", {"message": "long " * 40_000}))


async def resources(said, spec, name):
    async with connected(said, spec, name) as client:
        listed = await client.list_resources()
        said("resources", listed)
        said("templates", await client.list_resource_templates())
        for resource in listed.resources[:3]:
            said(str(resource.uri), await client.read_resource(resource.uri))
        said("of a template", await client.read_resource(spec["item"]))
        await said.failing("an unknown one", client.read_resource("demo://nowhere"))


async def prompts(said, spec, name):
    async with connected(said, spec, name) as client:
        said("prompts", await client.list_prompts())
        said("simple", await client.get_prompt("simple-prompt"))
        said("with arguments", await client.get_prompt("args-prompt", {"city": "Bern", "state": "BE"}))
        await said.failing("an unknown one", client.get_prompt("no-such-prompt"))
        if spec["completes"]:
            ref = types.PromptReference(type="ref/prompt", name=spec["completes"][0])
            said("completed", await client.complete(ref, {"name": spec["completes"][1], "value": "B"}))


async def progress(said, spec, name):
    async def told(done, total, message):
        # The last comes with the answer: which of both is seen first is the client's own affair.
        if done < total:
            said("progress", [done, total, message])

    async with connected(said, spec, name) as client:
        arguments = {"duration": 0.4, "steps": 4}
        said("done", await client.call_tool("trigger-long-running-operation", arguments, progress_callback=told))


async def sampling(said, spec, name):
    async def model(context, params):
        said("asked", params)
        content = types.TextContent(type="text", text="forty-two")
        return types.CreateMessageResult(role="assistant", model="m-1", content=content, stop_reason="endTurn")

    async with connected(said, spec, name, sampling_callback=model) as client:
        arguments = {"prompt": "What is the answer?", "maxTokens": 50}
        said("sampled", await client.call_tool("trigger-sampling-request", arguments))


async def elicitation(said, spec, name):
    async def user(context, params):
        said("asked", params)
        return types.ElicitResult(action="accept", content={"name": "Ann"})

    async with connected(said, spec, name, elicitation_callback=user) as client:
        said("elicited", await client.call_tool("trigger-elicitation-request", {}))
        said("elicited again", await client.call_tool("trigger-elicitation-request", {}))


async def roots(said, spec, name):
    async def listed(context):
        return types.ListRootsResult(roots=ROOTS)

    async with connected(said, spec, name, list_roots_callback=listed) as client:
        said("roots", await client.call_tool("get-roots-list", {}))


async def logging(said, spec, name):
    async def logged(params):
        said("logged", params)

    async with connected(said, spec, name, logging_callback=logged, log_level="info") as client:
        if not is_modern(client):
            await client.set_logging_level("info")
        said("done", await client.call_tool("log", {}))


async def cancellation(said, spec, name):
    begun = anyio.Event()

    async def told(done, total, message):
        begun.set()

    async with connected(said, spec, name) as client:

        async def call():
            arguments = {"duration": 2, "steps": 10}
            await client.call_tool("trigger-long-running-operation", arguments, progress_callback=told)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await begun.wait()
            group.cancel_scope.cancel()
        said("and another", await client.call_tool("echo", {"message": "meanwhile"}))


async def subscription(said, spec, name):
    async with connected(said, spec, name) as client:
        uri = spec["watched"]
        if is_modern(client):
            async with client.listen(resource_subscriptions=[uri]) as events:
                said("listens", events.honored)
                said("touched", await client.call_tool(*spec["touch"]))
                said("updated", repr(await anext(events)))
            return
        said("subscribed", await client.subscribe_resource(uri))
        # The stream on which it is told is another than those of the requests.
        await anyio.sleep(0.3)
        said("touched", await client.call_tool(*spec["touch"]))
        said("updated", await noted(client, types.ResourceUpdatedNotification))
        said("unsubscribed", await client.unsubscribe_resource(uri))


async def resume(said, spec, name):
    async with connected(said, spec, name, mode="legacy") as client:
        said("answered", await client.call_tool("leave", {}))
        said("and another", await client.call_tool("echo", {"message": "after it"}))


async def files(said, spec, name):
    async def listed(context):
        return types.ListRootsResult(roots=[types.Root(uri=f"file://{spec['folder']}")])

    async with connected(said, spec, name, list_roots_callback=listed) as client:
        path = f"{spec['folder']}/a.txt"
        said("tools", await client.list_tools())
        said("written", await client.call_tool("write_file", {"path": path, "content": "one\ntwo ✓\n"}))
        said("read", await client.call_tool("read_text_file", {"path": path}))
        said("listed", await client.call_tool("list_directory", {"path": spec["folder"]}))
        said("outside", await client.call_tool("read_text_file", {"path": "/etc/hostname"}))


anyio.run(run, {name: function for name, function in globals().items()}, json.loads(sys.argv[1]))
