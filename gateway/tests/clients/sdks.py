"""The SDKs as clients: each is a program of some lines in `sdk/`, which calls its SDK as an agent of its kind would."""

import os

from clients import SKIPPED, Client

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sdk")
OFFICIAL = os.environ["CLIENTS_SDK_PYTHON"]  # the venv of the tests of the official SDKs
FRAMEWORKS = os.environ["CLIENTS_FRAMEWORKS"]  # the venv of what is built over them
NODE = os.environ["CLIENTS_SDK_NODE"]  # the folder of node_modules
MODELS = {"chat": "gpt-4o-mini", "responses": "gpt-6.1-terra", "messages": "claude-haiku-4-5", "generate": "gemini-2.5-flash"}


class Sdk(Client):
    program = ""
    dialect = ""
    says_session = False
    has_tools = False
    # What `run` brings them in, or says that it skips.
    bundle = ""

    def settings(self):
        base, session = self.base, {"SESSION": self.session} if self.session else {}
        return {
            "MODEL": self.model,
            "OPENAI_BASE_URL": f"{base}/v1",
            "OPENAI_API_KEY": self.key,
            "ANTHROPIC_BASE_URL": base,
            "ANTHROPIC_API_KEY": self.key,
            "GOOGLE_GEMINI_BASE_URL": f"{base}/gemini",
            "GEMINI_API_KEY": self.key,
            **session,
        }


class OfPython(Sdk):
    venv, bundle = FRAMEWORKS, "python-frameworks"

    def settings(self):
        return {**super().settings(), "PYTHONDONTWRITEBYTECODE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def command(self, prompt, again):
        return [os.path.join(self.venv, "bin", "python"), os.path.join(HERE, self.program), self.dialect, prompt]


class Official(OfPython):
    venv, bundle = OFFICIAL, "python-sdks"


class OfNode(Sdk):
    bundle = "node-sdks"

    def files(self):
        # A module finds those that it imports beside itself.
        os.symlink(NODE, os.path.join(self.home, "node_modules"))
        files = {}
        for name in ("program.mjs", self.program):
            with open(os.path.join(HERE, name)) as file:
                files[name] = file.read()
        return files

    def command(self, prompt, again):
        return ["node", os.path.join(self.home, self.program), self.dialect, prompt]


class VercelAi(OfNode):
    def settings(self):
        # Its base is the one of the version.
        return {**super().settings(), "ANTHROPIC_BASE_URL": f"{self.base}/v1"}


def sdk(parent, name, program, dialect, **more):
    return type(name, (parent,), {"name": name, "program": program, "dialect": dialect, "model": MODELS[dialect], **more})


OF_PYTHON = [
    sdk(Official, "openai-py-chat", "with_openai.py", "chat"),
    sdk(Official, "openai-py-responses", "with_openai.py", "responses"),
    sdk(Official, "anthropic-py", "with_anthropic.py", "messages", has_tools=True),
    sdk(Official, "google-genai-py", "with_google_genai.py", "generate", has_tools=True),
]
OF_NODE = [
    sdk(OfNode, "openai-node-chat", "with-openai.mjs", "chat", has_tools=True),
    sdk(OfNode, "openai-node-responses", "with-openai.mjs", "responses"),
    sdk(OfNode, "anthropic-node", "with-anthropic.mjs", "messages", has_tools=True),
    sdk(OfNode, "google-genai-node", "with-google-genai.mjs", "generate"),
]
OVER_THEM = [
    sdk(OfPython, "openai-agents-chat", "with_openai_agents.py", "chat", has_tools=True),
    sdk(OfPython, "openai-agents-responses", "with_openai_agents.py", "responses", has_tools=True),
    sdk(OfPython, "langchain-chat", "with_langchain.py", "chat"),
    sdk(OfPython, "langchain-responses", "with_langchain.py", "responses"),
    sdk(OfPython, "langchain-anthropic", "with_langchain.py", "messages"),
    sdk(OfPython, "litellm-openai", "with_litellm.py", "chat"),
    sdk(OfPython, "litellm-anthropic", "with_litellm.py", "messages"),
    sdk(OfPython, "pydantic-ai-chat", "with_pydantic_ai.py", "chat", has_tools=True),
    sdk(OfPython, "pydantic-ai-responses", "with_pydantic_ai.py", "responses", has_tools=True),
    sdk(OfPython, "pydantic-ai-anthropic", "with_pydantic_ai.py", "messages", has_tools=True),
    sdk(VercelAi, "vercel-ai-chat", "with-vercel-ai.mjs", "chat", has_tools=True),
    sdk(VercelAi, "vercel-ai-responses", "with-vercel-ai.mjs", "responses", has_tools=True),
    sdk(VercelAi, "vercel-ai-anthropic", "with-vercel-ai.mjs", "messages", has_tools=True),
]


def here(kinds):
    return [kind for kind in kinds if kind.bundle not in SKIPPED]


ALL_OFFICIAL = here(OF_PYTHON + OF_NODE)
ALL = ALL_OFFICIAL + here(OVER_THEM)
