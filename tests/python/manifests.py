"""Checks a file of Kubernetes manifests against Kubernetes' own schemas, strictly, and prints it as JSON: manifests.py FILE"""

import json
import sys

import kubernetes_validate
import yaml

with open(sys.argv[1], encoding="utf-8") as file:
    manifests = list(yaml.safe_load_all(file))
for manifest in manifests:
    kubernetes_validate.validate(manifest, "1.30", strict=True)
json.dump(manifests, sys.stdout)
