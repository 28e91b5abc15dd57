"""A server on FastMCP as it is in the Python SDK 1.x. `fast1.py PORT`, or `fast1.py stdio`."""

import sys

import anyio
from events import Events
from mcp.server.fastmcp import Context, FastMCP
from mcp.types import Completion, EmptyResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field

port = 0 if sys.argv[1] == "stdio" else int(sys.argv[1])
server = FastMCP("fast1", port=port, log_level="CRITICAL", event_store=Events(), retry_interval=50)


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


@server.tool(name="trigger-sampling-request")
async def sampling(prompt: str, maxTokens: int, ctx: Context) -> str:
    """Asks the client's model."""
    asked = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message(messages=[asked], max_tokens=maxTokens, related_request_id=ctx.request_id)
    return f"{answer.model} said {answer.content.text}"


@server.tool(name="trigger-elicitation-request")
async def elicitation(ctx: Context) -> str:
    """Asks the client's user."""
    answer = await ctx.elicit("Who are you?", Person)
    return f"{answer.action}: {answer.data.name}"


@server.tool(name="get-roots-list")
async def roots(ctx: Context) -> str:
    """Asks for the client's roots."""
    found = await ctx.session.list_roots()
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
    await ctx.session.send_resource_updated(uri)
    return "touched"


@server._mcp_server.set_logging_level()
async def level_set(level):
    return EmptyResult()


@server._mcp_server.subscribe_resource()
async def subscribed(uri):
    return EmptyResult()


@server._mcp_server.unsubscribe_resource()
async def unsubscribed(uri):
    return EmptyResult()


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


server.run("stdio" if sys.argv[1] == "stdio" else "streamable-http")
