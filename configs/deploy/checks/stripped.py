"""stripped.py FOLDER: the archive's binary has no symbols, and names the file beside it that has them, which is of the same build."""

import pathlib
import subprocess
import sys
import tarfile
import tempfile

folder = pathlib.Path(sys.argv[1])
(archive,) = folder.glob("agentledger-*-linux-gnu.tar.gz")
(symbols,) = folder.glob("*.debug")
faults = []


def sections(file):
    return subprocess.run(["readelf", "-W", "-S", "-n", file], check=True, capture_output=True, text=True).stdout


def build_id(text):
    return next((line.split()[-1] for line in text.splitlines() if "Build ID" in line), None)


with tempfile.TemporaryDirectory() as scratch:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        owners = {(member.uid, member.gid, member.mtime) for member in tar.getmembers()}
        tar.extractall(scratch, filter="data")
    top = names[0].split("/")[0]
    (binary,) = pathlib.Path(scratch).glob("*/bin/agentledger")
    told, kept = sections(binary), sections(symbols)
    if ".symtab" in told or ".debug_line" in told:
        faults.append("the binary has symbols")
    if ".gnu_debuglink" not in told or symbols.name.encode() not in binary.read_bytes():
        faults.append("the binary does not name its symbols")
    if ".debug_line" not in kept or build_id(told) != build_id(kept):
        faults.append("the symbols are another build's")
    if subprocess.run([binary, "version"], capture_output=True, text=True).returncode:
        faults.append("the stripped binary does not run")
for wanted in ("LICENSE", "agentledger.example.yaml", "systemd/agentledger.service", "man/man1/agentledger.1", "completions/_agentledger"):
    if not any(name == f"{top}/{wanted}" or name.endswith(f"/{wanted}") for name in names):
        faults.append(f"the archive has no {wanted}")
if owners != {(0, 0, 1700000000)}:
    faults.append(f"the archive is not the same each time: {sorted(owners)[:3]}")
sys.exit("\n".join(faults) or 0)
