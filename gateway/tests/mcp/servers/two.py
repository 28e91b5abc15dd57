"""The same on the Python SDK 2.x, in both eras: what it wants of its client it asks for as the era has it. `two.py PORT`, or `two.py stdio`."""

import sys
from typing import Annotated

import anyio
import uvicorn
from events import Events
from mcp.server.mcpserver import Context, Elicit, ListRoots, MCPServer, Resolve, Sample
from mcp_types import (
    Completion,
    CreateMessageResult,
    EmptyResult,
    ListRootsResult,
    SamplingMessage,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

server = MCPServer("two", version="1.0.0", log_level="CRITICAL")


class Person(BaseModel):
    name: str = Field(description="Who you are")


@server.tool()
def echo(message: str) -> str:
    """Says it again."""
    return f"Echo: {message}"


@server.tool(name="get-sum")
def get_sum(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool(name="trigger-long-running-operation")
async def long_running(duration: float, steps: int, ctx: Context) -> str:
    """Takes its time, and says how far it is."""
    for step in range(steps):
        await anyio.sleep(duration / steps)
        await ctx.report_progress(step + 1, steps)
    return f"{steps} steps"


def model(prompt: str, maxTokens: int) -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text=prompt))], max_tokens=maxTokens)


@server.tool(name="trigger-sampling-request")
async def sampling(prompt: str, maxTokens: int, answer: Annotated[CreateMessageResult, Resolve(model)]) -> str:
    """Asks the client's model."""
    return f"{answer.model} said {answer.content.text}"


def user() -> Elicit[Person]:
    return Elicit("Who are you?", Person)


@server.tool(name="trigger-elicitation-request")
async def elicitation(person: Annotated[Person, Resolve(user)]) -> str:
    """Asks the client's user."""
    return f"accept: {person.name}"


def asked_roots() -> ListRoots:
    return ListRoots()


@server.tool(name="get-roots-list")
async def roots(found: Annotated[ListRootsResult, Resolve(asked_roots)]) -> str:
    """Asks for the client's roots."""
    return ", ".join(str(root.uri) for root in found.roots)


@server.tool()
async def log(ctx: Context) -> str:
    """Logs."""
    for level in ("info", "warning"):
        await ctx.log(level, f"a {level}")
    return "logged"


@server.tool()
async def leave(ctx: Context) -> str:
    """Ends the stream before it answers, so that its client has to come back for the answer."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.3)
    return "left and came back"


@server.tool()
async def touch(uri: str, ctx: Context) -> str:
    """Says that a resource changed."""
    await ctx.notify_resource_updated(uri)
    if ctx.protocol_version < "2026-07-28":
        await ctx.session.send_resource_updated(uri)
    return "touched"


async def subscribed(ctx, params):
    return EmptyResult()


for method, params in (("subscribe", SubscribeRequestParams), ("unsubscribe", UnsubscribeRequestParams)):
    server._lowlevel_server.add_request_handler(f"resources/{method}", params, subscribed)


@server.resource("demo://text", mime_type="text/plain")
def text() -> str:
    """A text."""
    return "A text: ünïcödé ✓"


@server.resource("demo://blob", mime_type="application/octet-stream")
def blob() -> bytes:
    """Bytes."""
    return bytes(range(256))


@server.resource("demo://item/{number}", mime_type="text/plain")
def item(number: int) -> str:
    """One of many."""
    return f"item {number}"


@server.prompt(name="simple-prompt")
def simple() -> str:
    """A plain one."""
    return "Say something."


@server.prompt(name="args-prompt")
def with_arguments(city: str, state: str = "") -> str:
    """With arguments."""
    return f"How is the weather in {city}, {state}?"


@server.completion()
async def complete(ref, argument, context):
    return Completion(values=[word for word in ("Berlin", "Bern", "Bonn") if word.startswith(argument.value)])


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    app = server.streamable_http_app(event_store=Events(), retry_interval=50)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", timeout_graceful_shutdown=1)
