import asyncio

import anthropic
import openai
from program import DIALECT, HEADERS, MODEL, PROMPT, end, run_shell_command, say
from pydantic_ai import Agent, UsageLimits
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


def of_openai(kind):
    return kind(MODEL, provider=OpenAIProvider(openai_client=openai.AsyncOpenAI(default_headers=HEADERS)))


def of_anthropic():
    client = anthropic.AsyncAnthropic(default_headers=HEADERS)
    return AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client))


KINDS = {
    "chat": lambda: of_openai(OpenAIChatModel),
    "responses": lambda: of_openai(OpenAIResponsesModel),
    "messages": of_anthropic,
}


async def run():
    agent = Agent(KINDS[DIALECT](), tools=[run_shell_command])
    async with agent.run_stream(PROMPT, usage_limits=UsageLimits(request_limit=None)) as answer:
        async for text in answer.stream_text(delta=True, debounce_by=None):
            say(text)


end(lambda: asyncio.run(run()))
