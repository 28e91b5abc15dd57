import openai
from program import DIALECT, HEADERS, MODEL, PROMPT, end, failed, say

client = openai.OpenAI(default_headers=HEADERS)


def chat():
    messages = [{"role": "user", "content": PROMPT}]
    for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
        for choice in chunk.choices:
            say(choice.delta.content)


def responses():
    for event in client.responses.create(model=MODEL, input=PROMPT, stream=True):
        if event.type == "response.output_text.delta":
            say(event.delta)
        elif event.type == "response.failed":
            failed(event.response.error)


end({"chat": chat, "responses": responses}[DIALECT])
