import anthropic
from program import HEADERS, MODEL, PROMPT, end, run_shell_command, say

client = anthropic.Anthropic(default_headers=HEADERS)


def messages():
    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=8_000,
        tools=[anthropic.beta_tool(run_shell_command)],
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
    )
    for stream in runner:
        for event in stream:
            if event.type == "text":
                say(event.text)


end(messages)
