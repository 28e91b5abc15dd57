"""deb.py DEB CARGO_TOML: the package has the files, modes and scripts that `package.metadata.deb` of Cargo.toml says to cargo-deb."""

import fnmatch
import pathlib
import subprocess
import sys
import tomllib

deb, manifest = sys.argv[1], pathlib.Path(sys.argv[2])
told = tomllib.loads(manifest.read_text())["package"]["metadata"]["deb"]
faults = []

packed = {}
for line in subprocess.run(["dpkg-deb", "--contents", deb], check=True, capture_output=True, text=True).stdout.splitlines():
    mode, owner, *_, path = line.split()
    if not path.endswith("/"):
        bits = "".join("0" if letter == "-" else "1" for letter in mode[1:10])
        packed[path.removeprefix("./")] = f"{int(bits, 2):o}"
        if owner not in ("root/root", "0/0"):
            faults.append(f"{path} is {owner}'s")

# cargo-deb makes one itself.
expected = [("usr/share/doc/agentledger/copyright", "644")]
for source, target, mode in told["assets"]:
    name = pathlib.PurePath(source).name
    where = target + name if target.endswith("/") else target
    # cargo-deb compresses manual pages.
    expected.append((where + ".gz" if where.startswith("usr/share/man/") else where, mode.lstrip("0")))
    if not source.startswith(("target/", "../target/")) and not list(manifest.parent.glob(source)) and not (manifest.parent / source).is_file():
        faults.append(f"Cargo.toml names {source}, which is not there")
for path, mode in packed.items():
    if not any(fnmatch.fnmatch(path, pattern) and mode == wanted for pattern, wanted in expected):
        faults.append(f"{path} ({mode}) is not in Cargo.toml")
for pattern, mode in expected:
    if not fnmatch.filter(packed, pattern):
        faults.append(f"{pattern} ({mode}) is not in the package")


def field(name):
    return subprocess.run(["dpkg-deb", "--field", deb, name], check=True, capture_output=True, text=True).stdout.strip()


version = tomllib.loads((manifest.parent.parent / "Cargo.toml").read_text())["workspace"]["package"]["version"]
if field("Version") != f"{version}-1":
    faults.append(f"the version is {field('Version')}")
for needed in ("libc6", "libstdc++6", "adduser", "ca-certificates"):
    if needed not in field("Depends"):
        faults.append(f"it does not depend on {needed}")
conffiles = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], check=True, capture_output=True).stdout
for script in ("postinst", "prerm", "postrm", "conffiles"):
    if script.encode() not in conffiles:
        faults.append(f"no {script}")
for path in told["conf-files"]:
    if path.encode() not in conffiles:
        faults.append(f"{path} is no conffile")
sys.exit("\n".join(faults) or 0)
