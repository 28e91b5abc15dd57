"""An MCP server with one tool, as the revision of 2025-11-25 has it: what it answers, and, run by itself, over its standard streams."""

import json
import sys


def result(message):
    if message["method"] == "initialize":
        version = message["params"]["protocolVersion"]
        return {"protocolVersion": version, "serverInfo": {"name": "hub", "version": "1"}, "capabilities": {"tools": {}}}
    if message["method"] == "tools/list":
        schema = {"type": "object", "properties": {"query": {"type": "string"}}}
        return {"tools": [{"name": "search", "description": "Finds.", "inputSchema": schema}]}
    return {"content": [{"type": "text", "text": "found"}]}


if __name__ == "__main__":
    with open(sys.argv[1], "a") as seen:
        for line in sys.stdin:
            print(line, end="", file=seen, flush=True)
            asked = json.loads(line)
            if "id" in asked:
                print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result(asked)}), flush=True)
