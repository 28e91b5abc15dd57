"""needed.py PROMTOOL FOLDER: the tests of the alert rules notice each alert: where all have other names, a test fails by each one's name."""

import pathlib
import re
import subprocess
import sys
import tempfile

promtool, folder = sys.argv[1], pathlib.Path(sys.argv[2])
rules = (folder / "alerts.yml").read_text()
names = re.findall(r"(?m)^      - alert: (\w+)", rules)
assert len(names) > 20 and len(set(names)) == len(names), names

with tempfile.TemporaryDirectory() as scratch:
    pathlib.Path(scratch, "alerts.yml").write_text(re.sub(r"(- alert: \w+)", r"\1Taken", rules))
    tests = [file.name for file in sorted(folder.glob("alerts_*test.yml"))]
    for name in tests:
        pathlib.Path(scratch, name).write_text((folder / name).read_text())
    ran = subprocess.run([promtool, "test", "rules", *tests], cwd=scratch, capture_output=True, text=True)
said = ran.stdout + ran.stderr
failed = re.findall(r'alertname=~?\\?"([^"\\]+)', said) + re.findall(r"alertname: ?(\w+)", said)
unnoticed = [name for name in names if not any(re.fullmatch(pattern, name) for pattern in failed)]
sys.exit("\n".join(f"no test notices that {name} is gone" for name in unnoticed) or 0)
