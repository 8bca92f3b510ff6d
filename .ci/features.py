"""Prints one line for each feature of each published crate: the crate, a tab, the feature.

An empty feature stands for none at all. Reads what `cargo metadata --no-deps` prints.
"""

import json
import sys

for package in json.load(sys.stdin)["packages"]:
    if package["publish"] == []:
        continue
    features = {f for f in package["features"] if f != "default"}
    for feature in ["", *sorted(features)]:
        print(package["name"], feature, sep="\t")
