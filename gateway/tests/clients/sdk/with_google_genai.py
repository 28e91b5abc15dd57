from google import genai
from google.genai import types
from program import HEADERS, MODEL, PROMPT, end, run_shell_command, say

client = genai.Client(http_options=types.HttpOptions(headers=HEADERS))


def generate():
    calls = types.AutomaticFunctionCallingConfig(maximum_remote_calls=200)
    config = types.GenerateContentConfig(tools=[run_shell_command], automatic_function_calling=calls)
    for chunk in client.models.generate_content_stream(model=MODEL, contents=PROMPT, config=config):
        say(chunk.text)


end(generate)
