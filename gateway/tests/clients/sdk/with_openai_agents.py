import asyncio

import agents
import openai
from program import DIALECT, HEADERS, MODEL, PROMPT, end, run_shell_command, say

agents.set_tracing_disabled(True)
KINDS = {"chat": agents.OpenAIChatCompletionsModel, "responses": agents.OpenAIResponsesModel}


async def run():
    model = KINDS[DIALECT](model=MODEL, openai_client=openai.AsyncOpenAI(default_headers=HEADERS))
    agent = agents.Agent(name="helper", model=model, tools=[agents.function_tool(run_shell_command)])
    async for event in agents.Runner.run_streamed(agent, PROMPT, max_turns=200).stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            say(event.data.delta)


end(lambda: asyncio.run(run()))
