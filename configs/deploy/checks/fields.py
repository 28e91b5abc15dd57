"""fields.py FILE…: no object has a field that Kubernetes' client does not know: the schemas let those pass, and a cluster drops them."""

import re
import sys

import yaml
from kubernetes import client

KINDS = {"v1": "V1", "apps/v1": "V1", "networking.k8s.io/v1": "V1"}
faults = []


def walk(value, kind, path):
    if listed := re.fullmatch(r"[lL]ist\[(.+)\]", kind):
        for at, each in enumerate(value):
            walk(each, listed[1], f"{path}[{at}]")
    elif mapped := re.fullmatch(r"[dD]ict[(\[]str, (.+)[)\]]", kind):
        for key, each in value.items():
            walk(each, mapped[1], f"{path}.{key}")
    elif hasattr(client, kind):
        model = getattr(client, kind)
        names = {written: own for own, written in model.attribute_map.items()}
        for key, each in value.items():
            if key not in names:
                faults.append(f"{path}.{key} is no field of {kind}")
            elif each is not None:
                walk(each, model.openapi_types[names[key]], f"{path}.{key}")


seen = 0
for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as text:
        for made in filter(None, yaml.safe_load_all(text)):
            # The Prometheus operator's are not Kubernetes' own.
            if made["apiVersion"] in KINDS:
                seen += 1
                walk(made, KINDS[made["apiVersion"]] + made["kind"], made["kind"])
if seen < 4:
    faults.append(f"only {seen} objects")
sys.exit("\n".join(faults) or 0)
