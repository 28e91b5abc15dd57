"""The client of the Python SDK 1.x. `py1.py SPEC`: see `said.run`."""

import json
import sys
from contextlib import asynccontextmanager

import anyio
import httpx
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from said import run

ROOTS = [types.Root(uri="file:///work/one", name="one"), types.Root(uri="file:///work/two", name="two")]


@asynccontextmanager
async def streams(spec, scenario):
    headers = dict(spec["headers"])
    if "X-Agent-Task" in headers:
        headers["X-Agent-Task"] += f"/{scenario}"
    if spec["transport"] == "stdio":
        command, *args = spec["command"]
        async with stdio_client(StdioServerParameters(command=command, args=args, env=spec["env"])) as pair:
            yield pair
    elif spec["transport"] == "sse":
        async with sse_client(spec["url"], headers=headers) as pair:
            yield pair
    else:
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            async with streamable_http_client(spec["url"], http_client=http) as (read, write, _):
                yield read, write


@asynccontextmanager
async def connected(said, spec, scenario, **callbacks):
    notes_in, notes = anyio.create_memory_object_stream(1000)

    async def heard(message):
        if isinstance(message, types.ServerNotification):
            await notes_in.send(message.root)

    async with streams(spec, scenario) as (read, write):
        async with ClientSession(read, write, message_handler=heard, **callbacks) as session:
            said("initialized", await session.initialize())
            session.notes = notes
            yield session


async def noted(session, kind):
    """The next notification of a kind."""
    with anyio.fail_after(20):
        async for note in session.notes:
            if isinstance(note, kind):
                return note


async def tools(said, spec, name):
    async with connected(said, spec, name) as session:
        said("tools", await session.list_tools())
        said("echo", await session.call_tool("echo", {"message": "ünïcödé ✓ \"quoted\" \\ \u2028"}))
        said("sum", await session.call_tool("get-sum", {"a": 2, "b": 3}))
        said("wrong arguments", await session.call_tool("get-sum", {"a": "two"}))
        said("no such tool", await session.call_tool("no-such-tool", {}))
        said("long", await session.call_tool("echo", {"message": "long " * 40_000}))
        await session.send_ping()


async def resources(said, spec, name):
    async with connected(said, spec, name) as session:
        listed = await session.list_resources()
        said("resources", listed)
        said("templates", await session.list_resource_templates())
        for resource in listed.resources[:3]:
            said(str(resource.uri), await session.read_resource(resource.uri))
        said("of a template", await session.read_resource(spec["item"]))
        await said.failing("an unknown one", session.read_resource("demo://nowhere"))


async def prompts(said, spec, name):
    async with connected(said, spec, name) as session:
        said("prompts", await session.list_prompts())
        said("simple", await session.get_prompt("simple-prompt"))
        said("with arguments", await session.get_prompt("args-prompt", {"city": "Bern", "state": "BE"}))
        await said.failing("an unknown one", session.get_prompt("no-such-prompt"))
        if spec["completes"]:
            ref = types.PromptReference(type="ref/prompt", name=spec["completes"][0])
            said("completed", await session.complete(ref, {"name": spec["completes"][1], "value": "B"}))


async def progress(said, spec, name):
    async def told(done, total, message):
        # The last comes with the answer: which of both is seen first is the client's own affair.
        if done < total:
            said("progress", [done, total, message])

    async with connected(said, spec, name) as session:
        arguments = {"duration": 0.4, "steps": 4}
        said("done", await session.call_tool("trigger-long-running-operation", arguments, progress_callback=told))


async def sampling(said, spec, name):
    async def model(context, params):
        said("asked", params)
        content = types.TextContent(type="text", text="forty-two")
        return types.CreateMessageResult(role="assistant", model="m-1", content=content, stopReason="endTurn")

    async with connected(said, spec, name, sampling_callback=model) as session:
        arguments = {"prompt": "What is the answer?", "maxTokens": 50}
        said("sampled", await session.call_tool("trigger-sampling-request", arguments))


async def elicitation(said, spec, name):
    async def user(context, params):
        said("asked", params)
        return types.ElicitResult(action="accept", content={"name": "Ann"})

    async with connected(said, spec, name, elicitation_callback=user) as session:
        said("elicited", await session.call_tool("trigger-elicitation-request", {}))


async def roots(said, spec, name):
    async def listed(context):
        return types.ListRootsResult(roots=ROOTS)

    async with connected(said, spec, name, list_roots_callback=listed) as session:
        said("roots", await session.call_tool("get-roots-list", {}))


async def logging(said, spec, name):
    async def logged(params):
        said("logged", params)

    async with connected(said, spec, name, logging_callback=logged) as session:
        await session.set_logging_level("info")
        said("done", await session.call_tool("log", {}))


async def cancellation(said, spec, name):
    begun = anyio.Event()

    async def told(done, total, message):
        begun.set()

    async with connected(said, spec, name) as session:

        async def call():
            arguments = {"duration": 2, "steps": 10}
            called = session.call_tool("trigger-long-running-operation", arguments, progress_callback=told)
            with anyio.move_on_after(3):
                await said.failing("the cancelled call", called)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await begun.wait()
            params = types.CancelledNotificationParams(requestId=session._request_id - 1, reason="no longer wanted")
            await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
            said("and another", await session.call_tool("echo", {"message": "meanwhile"}))
            if not spec["answers_cancelled"]:
                # Nothing comes of it any more.
                group.cancel_scope.cancel()


async def subscription(said, spec, name):
    async with connected(said, spec, name) as session:
        uri = spec["watched"]
        said("subscribed", await session.subscribe_resource(uri))
        # The stream on which it is told is another than those of the requests.
        await anyio.sleep(0.3)
        said("touched", await session.call_tool(*spec["touch"]))
        said("updated", await noted(session, types.ResourceUpdatedNotification))
        said("unsubscribed", await session.unsubscribe_resource(uri))


async def resume(said, spec, name):
    async with connected(said, spec, name) as session:
        said("answered", await session.call_tool("leave", {}))
        said("and another", await session.call_tool("echo", {"message": "after it"}))


async def files(said, spec, name):
    async def listed(context):
        return types.ListRootsResult(roots=[types.Root(uri=f"file://{spec['folder']}")])

    async with connected(said, spec, name, list_roots_callback=listed) as session:
        path = f"{spec['folder']}/a.txt"
        said("tools", await session.list_tools())
        said("written", await session.call_tool("write_file", {"path": path, "content": "one\ntwo ✓\n"}))
        said("read", await session.call_tool("read_text_file", {"path": path}))
        said("listed", await session.call_tool("list_directory", {"path": spec["folder"]}))
        said("outside", await session.call_tool("read_text_file", {"path": "/etc/hostname"}))


anyio.run(run, {name: function for name, function in globals().items()}, json.loads(sys.argv[1]))
