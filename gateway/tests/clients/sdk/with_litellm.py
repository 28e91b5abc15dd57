import litellm
from program import DIALECT, HEADERS, MODEL, PROMPT, end, say

litellm.suppress_debug_info = True
PROVIDERS = {"chat": "openai", "messages": "anthropic"}


def stream():
    messages = [{"role": "user", "content": PROMPT}]
    model = f"{PROVIDERS[DIALECT]}/{MODEL}"
    for chunk in litellm.completion(model=model, messages=messages, stream=True, extra_headers=HEADERS):
        for choice in chunk.choices:
            say(choice.delta.content)


end(stream)
