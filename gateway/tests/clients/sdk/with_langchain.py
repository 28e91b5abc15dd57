from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from program import DIALECT, HEADERS, MODEL, PROMPT, end, say

KINDS = {
    "chat": lambda: ChatOpenAI(model=MODEL, default_headers=HEADERS),
    "responses": lambda: ChatOpenAI(model=MODEL, default_headers=HEADERS, use_responses_api=True),
    "messages": lambda: ChatAnthropic(model=MODEL, default_headers=HEADERS),
}


def stream():
    for chunk in KINDS[DIALECT]().stream(PROMPT):
        say(chunk.text)


end(stream)
