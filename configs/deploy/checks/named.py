"""named.py ROOT: the files that Dockerfile and compose.yaml name are in the checkout, and the versions that stand in several files are one."""

import json
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
deploy = root / "configs/deploy"
faults = []

dockerfile = (deploy / "docker/Dockerfile").read_text()
for path in re.findall(r"configs/[\w./-]+", re.sub(r"(?m)^#.*$", "", dockerfile)):
    if not (root / path).is_file():
        faults.append(f"Dockerfile names {path}")
stages = re.findall(r"(?m)^FROM \S+ AS (\S+)", dockerfile)
for stage in re.findall(r"--from=(\S+)", dockerfile):
    if stage not in stages:
        faults.append(f"Dockerfile copies from {stage}, which is no stage of it")

compose = (deploy / "docker/compose.yaml").read_text()
for path in re.findall(r"(?m)^\s*- (\.\.?/\S+?):/", compose):
    if not (deploy / "docker" / path).is_file():
        faults.append(f"compose.yaml mounts {path}")

cargo = (root / "Cargo.toml").read_text()
version = re.search(r'(?m)^version = "(.+)"', cargo).group(1)
minimum = re.search(r'(?m)^rust-version = "(.+)"', cargo).group(1)
chart = (deploy / "helm/agentledger/Chart.yaml").read_text()
for what, have, want in [
    ("the image of compose.yaml", re.search(r"image: agentledger:(\S+)", compose).group(1), version),
    ("the chart", re.search(r"(?m)^version: (\S+)", chart).group(1), version),
    ("the chart's appVersion", re.search(r'(?m)^appVersion: "(\S+)"', chart).group(1), version),
    ("Rust in the Dockerfile", re.search(r"(?m)^ARG RUST=(\S+)", dockerfile).group(1), minimum),
]:
    if have != want:
        faults.append(f"{what} is {have}, Cargo.toml says {want}")

job = re.search(r"job_name: (\S+)", (deploy / "prometheus/prometheus.yml").read_text()).group(1)
if f'job="{job}"' not in (deploy / "prometheus/alerts.yml").read_text():
    faults.append(f"no alert knows the job {job}")
json.loads((deploy / "grafana/agentledger.json").read_text())
sys.exit("\n".join(faults) or 0)
