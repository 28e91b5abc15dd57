"""The same on FastMCP 4, in both eras. `fast4.py PORT`, or `fast4.py stdio`."""

import logging
import sys

import anyio
import uvicorn
from events import Events
from fastmcp import Context, FastMCP
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, Field

logging.disable(logging.CRITICAL)
server = FastMCP("fast4", version="1.0.0")


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


def is_modern(ctx):
    return ctx.request_context.protocol_version >= "2026-07-28"


@server.tool(name="trigger-sampling-request")
async def sampling(prompt: str, maxTokens: int, ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model."""
    asked = [SamplingMessage(role="user", content=TextContent(type="text", text=prompt))]
    if not is_modern(ctx):
        answer = await ctx.session.create_message(messages=asked, max_tokens=maxTokens, related_request_id=ctx.request_id)
    elif ctx.input_responses:
        answer = ctx.input_responses["model"]
    else:
        params = CreateMessageRequestParams(messages=asked, max_tokens=maxTokens)
        return InputRequiredResult(input_requests={"model": CreateMessageRequest(params=params)}, request_state="asked")
    return f"{answer.model} said {answer.content.text}"


@server.tool(name="trigger-elicitation-request")
async def elicitation(ctx: Context) -> str | InputRequiredResult:
    """Asks the client's user. Without a state: the answers are all that comes back."""
    if not is_modern(ctx):
        answer = await ctx.elicit("Who are you?", Person)
        return f"{answer.action}: {answer.data.name}"
    if ctx.input_responses:
        answer = ctx.input_responses["user"]
        return f"{answer.action}: {answer.content['name']}"
    params = ElicitRequestFormParams(message="Who are you?", requested_schema=Person.model_json_schema())
    return InputRequiredResult(input_requests={"user": ElicitRequest(params=params)})


@server.tool(name="get-roots-list")
async def roots(ctx: Context) -> str | InputRequiredResult:
    """Asks for the client's roots."""
    if not is_modern(ctx):
        found = await ctx.session.list_roots()
    elif ctx.input_responses:
        found = ctx.input_responses["roots"]
    else:
        return InputRequiredResult(input_requests={"roots": ListRootsRequest()}, request_state="asked")
    return ", ".join(str(root.uri) for root in found.roots)


@server.tool()
async def log(ctx: Context) -> str:
    """Logs."""
    for level in ("info", "warning"):
        await ctx.log(f"a {level}", level=level)
    return "logged"


@server.tool()
async def leave(ctx: Context) -> str:
    """Ends the stream before it answers, so that its client has to come back for the answer."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.3)
    return "left and came back"


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


if sys.argv[1] == "stdio":
    server.run("stdio", show_banner=False)
else:
    app = server.http_app(event_store=Events(), retry_interval=50)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", timeout_graceful_shutdown=1)
