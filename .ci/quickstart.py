"""Checks what the quick start found: quickstart.py LABELS ALERTS REPORT

LABELS says which host does what in the capture, ALERTS is what `sentinel --alerts` wrote, REPORT the page it made. Every
attack needs an alert that accuses its host of its technique, and at most one alert may be about something else.
"""

import csv
import json
import sys

MINUTE_NS = 60_000_000_000

labels_path, alerts_path, report_path = sys.argv[1:]
with open(labels_path, newline="") as file:
    labels = list(csv.DictReader(file))
with open(alerts_path) as file:
    # The latest line of an alert that was updated replaces the earlier ones.
    alerts = {alert["id"]: alert for alert in map(json.loads, file)}.values()
with open(report_path) as file:
    report = file.read()


def explains(alert, label):
    """Whether the alert is about the labelled attack. A sub-technique counts as its parent."""
    return (
        alert["host"] == label["host"]
        and (alert["technique"] or "").split(".")[0] == label["technique"].split(".")[0]
        and int(label["start_ns"]) - MINUTE_NS <= alert["time_ns"] <= int(label["end_ns"]) + MINUTE_NS
    )


problems = [
    f"missed: {label['name']} by {label['host']}"
    for label in labels
    if not any(explains(alert, label) for alert in alerts)
]
others = [alert for alert in alerts if not any(explains(alert, label) for label in labels)]
if len(others) > 1:
    problems += [f"false alarm: {alert['title']} ({alert['host']}, {alert['technique']})" for alert in others]
for alert in alerts:
    if alert["id"] not in report:
        problems.append(f"not in the report: {alert['title']}")

print(f"{len(labels)} attacks, {len(alerts)} alerts, {len(others)} of them about something else")
if problems:
    sys.exit("\n".join(problems))
