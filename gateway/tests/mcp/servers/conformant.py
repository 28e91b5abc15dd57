"""The server that the official conformance suite asks for, on the Python SDK 2.x, in both eras: what each scenario wants of it stands
in the scenario's own description. `conformant.py PORT`."""

import base64
import json
import sys

import anyio
import uvicorn
from events import Events
from mcp.server.mcpserver import Context, MCPServer, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0").decode()
MISSING_CAPABILITY = -32021

server = MCPServer("conformant", version="1.0.0", log_level="CRITICAL")


def text(said):
    return TextContent(type="text", text=said)


def resource(uri, said, mime="text/plain"):
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime, text=said))


def plain(function):
    """A tool whose results are only what it says."""
    return server.tool(structured_output=False)(function)


@plain
def test_simple_text() -> str:
    """Says something."""
    return "This is a simple text response for testing."


@plain
def test_image_content() -> list[ImageContent]:
    """Shows something."""
    return [ImageContent(type="image", data=PNG, mime_type="image/png")]


@plain
def test_audio_content() -> list[AudioContent]:
    """Sounds."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@plain
def test_embedded_resource() -> list[EmbeddedResource]:
    """Brings a resource along."""
    return [resource("test://embedded-resource", "This is an embedded resource content.")]


@plain
def test_multiple_content_types() -> CallToolResult:
    """Several kinds at once."""
    return CallToolResult(
        content=[
            text("Multiple content types test:"),
            ImageContent(type="image", data=PNG, mime_type="image/png"),
            resource("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
        ]
    )


@plain
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs on the way."""
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(said)
        await anyio.sleep(0.05)
    return "logged"


@plain
def test_error_handling() -> str:
    """Fails."""
    raise ToolError("This tool intentionally returns an error for testing")


@plain
async def test_tool_with_progress(ctx: Context) -> str:
    """Tells how far it is."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
        await anyio.sleep(0.05)
    return "done"


@plain
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    asked = SamplingMessage(role="user", content=text(prompt))
    answer = await ctx.session.create_message(messages=[asked], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text}"


async def asked_form(ctx, message, properties, required=()):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"action={answer.action}, content={json.dumps(answer.content)}"


@plain
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the client's user."""
    said = {"type": "string", "description": "User's response"}
    address = {"type": "string", "description": "User's email address"}
    answer = await asked_form(ctx, message, {"username": said, "email": address}, ["username", "email"])
    return f"User response: {answer}"


@plain
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with defaults."""
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return f"Elicitation completed: {await asked_form(ctx, 'Are these right?', properties)}"


@plain
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks for choices."""
    untitled = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{which} Option"} for n, which in enumerate(("First", "Second", "Third"), 1)]
    choices = [{"const": f"value{n}", "title": f"{which} Choice"} for n, which in enumerate(("First", "Second", "Third"), 1)]
    legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    properties = {
        "untitledSingle": {"type": "string", "enum": untitled},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", **legacy},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": untitled}},
        "titledMulti": {"type": "array", "items": {"anyOf": choices}},
    }
    return f"Elicitation completed: {await asked_form(ctx, 'Which?', properties)}"


@plain
async def test_reconnection(ctx: Context) -> str:
    """Ends its stream before its answer, so that the client has to come back for it."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.3)
    return "Reconnection test completed"


@plain
def test_headers(region: str = Field(default="", json_schema_extra={"x-mcp-header": "Region"})) -> str:
    """One of its arguments stands in a header, too."""
    return region


@plain
def test_missing_capability(ctx: Context) -> str:
    """Needs a client that samples."""
    needs(ctx, "sampling")
    return "sampling is there"


def needs(ctx, name):
    if getattr(ctx.client_capabilities, name, None) is None:
        raise MCPError(MISSING_CAPABILITY, f"{name} is needed", {"requiredCapabilities": {name: {}}})


@plain
async def test_trigger_tool_change(ctx: Context) -> str:
    """Says that the tools changed."""
    await ctx.notify_tools_changed()
    return "tools changed"


@plain
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Says that the prompts changed."""
    await ctx.notify_prompts_changed()
    return "prompts changed"


@plain
def json_schema_2020_12_tool() -> str:
    """Its schema has what 2020-12 brought."""
    return "as its schema has it"


STREET = {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
server._tool_manager.get_tool("json_schema_2020_12_tool").parameters = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", **STREET}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


# What asks for input first (2026-07-28).


def form(message, **properties):
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}
    schema["required"] = list(properties)
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt, most=100):
    asked = SamplingMessage(role="user", content=text(prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[asked], max_tokens=most))


def answered(ctx, **wanted):
    """The answers, where all that are wanted are there and are of their kind: the member that such an answer has."""
    given = ctx.input_responses or {}
    found = {name: getattr(given.get(name), kind, None) for name, kind in wanted.items()}
    return None if None in found.values() else found


NAME = {"user_name": form("What is your name?", name="string")}


@plain
def test_input_required_result_elicitation(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Wants a name."""
    found = answered(ctx, user_name="content")
    if not found or "name" not in found["user_name"]:
        return InputRequiredResult(input_requests=NAME)
    return CallToolResult(content=[text(f"Hello, {found['user_name']['name']}!")])


@plain
def test_input_required_result_sampling(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Wants to know from a model."""
    found = answered(ctx, capital_question="content")
    if not found:
        return InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?")})
    return CallToolResult(content=[found["capital_question"]])


@plain
def test_input_required_result_list_roots(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Wants the client's roots."""
    found = answered(ctx, client_roots="roots")
    if not found:
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
    return CallToolResult(content=[text(", ".join(str(root.uri) for root in found["client_roots"]))])


@plain
def test_input_required_result_request_state(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Wants its state back."""
    if not answered(ctx, confirm="content"):
        return InputRequiredResult(input_requests={"confirm": form("Please confirm", ok="boolean")}, request_state="asked")
    return CallToolResult(content=[text("state-ok" if ctx.request_state == "asked" else "no state")])


@plain
def test_input_required_result_tampered_state(ctx: Context) -> CallToolResult | InputRequiredResult:
    """The SDK seals the state, and refuses another."""
    return test_input_required_result_request_state(ctx)


@plain
def test_input_required_result_multiple_inputs(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Wants three things at once."""
    found = answered(ctx, user_name="content", greeting="content", client_roots="roots")
    if not found:
        wanted = {**NAME, "greeting": sample("Generate a greeting", 50), "client_roots": ListRootsRequest()}
        return InputRequiredResult(input_requests=wanted, request_state="asked")
    return CallToolResult(content=[text("all there")])


@plain
def test_input_required_result_multi_round(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Wants one thing after the other."""
    if ctx.request_state == "second" and answered(ctx, step2="content"):
        return CallToolResult(content=[text("both there")])
    if ctx.request_state == "first" and answered(ctx, step1="content"):
        wanted = {"step2": form("Step 2: What is your favorite color?", color="string")}
        return InputRequiredResult(input_requests=wanted, request_state="second")
    return InputRequiredResult(
        input_requests={"step1": form("Step 1: What is your name?", name="string")}, request_state="first"
    )


@plain
def test_input_required_result_capabilities(ctx: Context) -> CallToolResult | InputRequiredResult:
    """Asks only for what the client can do."""
    can = ctx.client_capabilities
    wanted = {}
    if can and can.sampling is not None:
        wanted["greeting"] = sample("Generate a greeting", 50)
    if can and can.elicitation is not None:
        wanted.update(NAME)
    if ctx.input_responses or not wanted:
        return CallToolResult(content=[text("no more is wanted")])
    return InputRequiredResult(input_requests=wanted)


@server.prompt()
def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
    """A prompt that wants something."""
    found = answered(ctx, user_context="content")
    if not found:
        return InputRequiredResult(
            input_requests={"user_context": form("What context should the prompt use?", context="string")}
        )
    return [UserMessage(f"In the context of {found['user_context'].get('context')}")]


# Resources, prompts, and the rest.


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """A picture."""
    return base64.b64decode(PNG)


@server.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    """One to subscribe to."""
    return "watched"


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """One of many."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt()
def test_simple_prompt() -> str:
    """A plain one."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """With arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """With a resource."""
    return [
        UserMessage(resource(resourceUri, "Embedded resource content for testing.")),
        UserMessage("Please process the embedded resource above."),
    ]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """With a picture."""
    return [
        UserMessage(ImageContent(type="image", data=PNG, mime_type="image/png")),
        UserMessage("Please analyze the image above."),
    ]


@server.completion()
async def complete(ref, argument, context):
    return Completion(values=[word for word in ("paris", "park", "party") if word.startswith(argument.value)])


async def nothing(ctx, params):
    return EmptyResult()


for method, params in (
    ("logging/setLevel", SetLevelRequestParams),
    ("resources/subscribe", SubscribeRequestParams),
    ("resources/unsubscribe", UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(method, params, nothing)


app = server.streamable_http_app(event_store=Events(), retry_interval=100)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", timeout_graceful_shutdown=1)
