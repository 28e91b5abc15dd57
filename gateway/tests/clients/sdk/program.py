"""What every program here is: `program.py DIALECT PROMPT` asks its SDK for a stream, prints the text as it comes, and ends as a Python
program does whose SDK raises: the error's own text on stderr, exit code 1. The SDK's own variables point it to its base URL."""

import os
import subprocess
import sys

DIALECT, PROMPT = sys.argv[1:3]
MODEL = os.environ["MODEL"]
HEADERS = {"X-Agent-Session": os.environ["SESSION"]} if "SESSION" in os.environ else {}


def run_shell_command(command: str, description: str) -> str:
    """Runs a shell command and gives what it prints.

    Args:
        command: the command
        description: what it is for
    """
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60).stdout


def say(text):
    print(text or "", end="", flush=True)


def failed(error):
    """Responses that failed are events, not exceptions, in OpenAI's SDK."""
    raise RuntimeError(f"the response failed: {error.code}: {error.message}")


def end(program):
    try:
        program()
    except Exception as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
