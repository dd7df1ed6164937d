"""What Timesketch's importers ask of a CSV or JSONL file, checked with Python's own readers; prints the rows as JSON.

timesketch/lib/utils.py: read_and_validate_csv reads with pandas and its first row's form of datetime, read_and_validate_jsonl with
json.loads a line; message, datetime and timestamp_desc must be there; some names are removed or split (tag).
"""
import csv
import datetime
import json
import re
import sys

MANDATORY = {"message", "datetime", "timestamp_desc"}
TAKEN = {"tag", "label", "_id", "_type", "_index", "_source", "__ts_timeline_id"}
FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


def check(row):
    assert MANDATORY <= row.keys(), row
    assert not TAKEN & row.keys(), row
    assert all(row[name] for name in MANDATORY), row
    assert FORM.fullmatch(row["datetime"]), row
    moment = datetime.datetime.fromisoformat(row["datetime"])
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    assert int(row["timestamp"]) == since // datetime.timedelta(microseconds=1), row
    return row


def read_csv(file):
    # Strict, and the default limit of a field stays as it is.
    reader = csv.DictReader(file, strict=True)
    rows = list(reader)
    assert all(None not in row and None not in row.values() for row in rows)
    return [{name: value for name, value in row.items() if value != ""} for row in rows]


def read_jsonl(file):
    return [json.loads(line) for line in file]


with open(sys.argv[2], encoding="utf-8", newline="") as opened:
    found = read_csv(opened) if sys.argv[1] == "csv" else read_jsonl(opened)
found = [check(row) for row in found]
assert [row["datetime"] for row in found] == sorted(row["datetime"] for row in found)
assert [int(row["timestamp_ns"]) for row in found] == sorted(int(row["timestamp_ns"]) for row in found)
print(json.dumps(found))
