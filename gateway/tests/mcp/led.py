"""A client of the conformance suite, led by a gateway: `led.py URL` starts one before the suite's server, and the client of the
TypeScript SDK 2.x at it."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

from gateway import Gateway

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENT = ["node", "--no-warnings", "--import", os.path.join(HERE, "node.mjs"), os.path.join(HERE, "clients", "conformant.mjs")]


def main(url):
    gateway = Gateway("http://127.0.0.1:9", {"mcp": {"servers": {"suite": {"upstream": url}}}})
    try:
        return subprocess.run([*CLIENT, f"{gateway.url}/mcp/suite{'' if urlsplit(url).path else '/'}"]).returncode
    finally:
        gateway.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
