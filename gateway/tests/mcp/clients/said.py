"""What a client's code saw, scenario by scenario, as lines of JSON; for both Python SDKs."""

import json
import traceback


def plain(value):
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


class Said:
    def __init__(self):
        self.lines = []

    def __call__(self, what, value=None):
        self.lines.append([what, plain(value)])

    async def failing(self, what, awaitable):
        """What is to fail, and how it does."""
        try:
            self(f"{what} did not fail", await awaitable)
        except Exception as error:
            told = getattr(error, "error", error)
            self(f"{what} failed", {"code": getattr(told, "code", None), "message": getattr(told, "message", str(told))})


def causes(error):
    """The errors that a group of tasks bundles."""
    inner = getattr(error, "exceptions", None)
    return [cause for one in inner for cause in causes(one)] if inner else [error]


async def run(scenarios, spec):
    for name in spec["scenarios"]:
        said = Said()
        try:
            await scenarios[name](said, spec, name)
        except BaseException as error:
            for cause in causes(error):
                said("broke off", repr(cause))
                said("trace", "".join(traceback.format_exception(cause)))
        print(json.dumps({"scenario": name, "said": said.lines}, ensure_ascii=False), flush=True)
