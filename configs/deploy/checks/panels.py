"""panels.py BOARD: its panels have names and units of their own, lie side by side, and ask the chosen Prometheus only."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    board = json.load(file)
faults = []
source = {"type": "prometheus", "uid": "${datasource}"}
panels = [panel for panel in board["panels"] if panel["type"] != "row"]
for what in ("id", "title"):
    values = [panel[what] for panel in board["panels"]]
    faults += [f"two panels have the {what} {value!r}" for value in set(values) if values.count(value) > 1]
taken = {}
for panel in board["panels"]:
    place = panel["gridPos"]
    if place["x"] + place["w"] > 24:
        faults.append(f"{panel['title']} is wider than the board")
    for y in range(place["y"], place["y"] + place["h"]):
        for x in range(place["x"], place["x"] + place["w"]):
            if other := taken.get((x, y)):
                faults.append(f"{panel['title']} lies over {other}")
            taken[x, y] = panel["title"]
for panel in panels:
    if panel["datasource"] != source or any(target["datasource"] != source for target in panel["targets"]):
        faults.append(f"{panel['title']} asks another source")
    if not panel["fieldConfig"]["defaults"].get("unit"):
        faults.append(f"{panel['title']} has no unit")
    if len({target["refId"] for target in panel["targets"]}) != len(panel["targets"]):
        faults.append(f"two queries of {panel['title']} have one name")
    if any("instance=~" not in target["expr"] for target in panel["targets"]):
        faults.append(f"{panel['title']} does not heed the chosen gateway")
names = [variable["name"] for variable in board["templating"]["list"]]
if names != ["datasource", "instance", "provider"] or len(panels) < 20 or board["uid"] != "agentledger":
    faults.append(f"is this the board? {names}, {len(panels)} panels")
sys.exit("\n".join(sorted(set(faults))) or 0)
