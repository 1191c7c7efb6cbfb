#!/usr/bin/env python3
"""Writes a savepoint that streamd starts a job from, with nothing of streamd's: pyarrow, xxhash, and docs/reference/savepoint-format.md.

    pip install pyarrow xxhash
    write_savepoint.py FOLDER < state.json
    streamctl run -s FOLDER my-application

state.json says what the operators of the job are to start with. Types are written as in the format; values as JSON has them,
bytes as lists of numbers, maps and enums as shown:

    {"operators": [{"uid": "statistics", "max_parallelism": 128,
                    "keyed": [{"state": "count", "key": "string", "value": "uint64", "rows": [["ATL", 7], ["ORD", 3]]}],
                    "lists": [{"name": "splits", "data_type": "string", "items": ["a.csv"]}]}]}

    a map:              [[key, value], …]
    a variant:          "Name", or {"Name": {"field": value, …}}
    an absent option:   null; one that is there and holds an option: {"value": …}
"""

import json
import os
import re
import secrets
import struct
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

NUMBERS = {
    "bool": ("?", pa.bool_()),
    "int8": ("b", pa.int8()), "int16": ("h", pa.int16()), "int32": ("i", pa.int32()), "int64": ("q", pa.int64()),
    "uint8": ("B", pa.uint8()), "uint16": ("H", pa.uint16()), "uint32": ("I", pa.uint32()), "uint64": ("Q", pa.uint64()),
    "float32": ("f", pa.float32()), "float64": ("d", pa.float64()),
}


def kind(data_type):
    """The word of a type, and what is in it."""
    if isinstance(data_type, str):
        return data_type, None
    (word, inner), = data_type.items()
    return word, inner


def variant_of(value):
    """The name of a variant, and its fields by name."""
    if isinstance(value, str):
        return value, {}
    (name, fields), = value.items()
    return name, fields


# The canonical encoding of keys, which their key group follows from.

def encode(data_type, value):
    word, inner = kind(data_type)
    if word in NUMBERS:
        return struct.pack("<" + NUMBERS[word][0], value)
    if word in ("string", "bytes"):
        data = value.encode() if word == "string" else bytes(value)
        return struct.pack("<I", len(data)) + data
    if word == "option":
        return b"\0" if value is None else b"\1" + encode(inner, unwrapped(inner, value))
    if word == "list":
        return struct.pack("<I", len(value)) + b"".join(encode(inner, item) for item in value)
    if word == "map":
        entries = sorted(value, key=lambda entry: entry[0])
        return struct.pack("<I", len(entries)) + b"".join(encode(inner[0], k) + encode(inner[1], v) for k, v in entries)
    if word == "struct":
        return b"".join(encode(field["data_type"], value[field["name"]]) for field in inner["fields"])
    if word == "enum":
        name, fields = variant_of(value)
        index = [variant["name"] for variant in inner["variants"]].index(name)
        types = inner["variants"][index]["fields"]
        return struct.pack("<I", index) + b"".join(encode(field["data_type"], fields[field["name"]]) for field in types)
    raise ValueError(f"unknown type {word}")


def key_group(key_type, key, max_parallelism):
    digest = xxhash.xxh3_64_intdigest(encode(key_type, key))
    return ((digest >> 32) * max_parallelism) >> 32


# Types and values as Arrow has them.

def unwrapped(inner, value):
    return value["value"] if kind(inner)[0] == "option" else value


def field(name, data_type):
    word, inner = kind(data_type)
    if word != "option":
        return pa.field(name, arrow(data_type), nullable=False)
    if kind(inner)[0] == "option":
        return pa.field(name, pa.struct([field("value", inner)]))
    return pa.field(name, arrow(inner))


def arrow(data_type):
    word, inner = kind(data_type)
    if word in NUMBERS:
        return NUMBERS[word][1]
    if word == "string":
        return pa.string()
    if word == "bytes":
        return pa.binary()
    if word == "list":
        return pa.list_(field("item", inner))
    if word == "map" and kind(inner[0])[0] == "option":
        return pa.list_(pa.field("item", pa.struct([field("key", inner[0]), field("value", inner[1])]), nullable=False))
    if word == "map":
        return pa.map_(field("keys", inner[0]), field("values", inner[1]))
    if word == "struct":
        return record(inner["fields"])
    if word == "enum" and not any(variant["fields"] for variant in inner["variants"]):
        return pa.string()
    if word == "enum":
        columns = [pa.field("variant", pa.string(), nullable=False)]
        for variant in inner["variants"]:
            if variant["fields"]:
                columns.append(pa.field(column_of(variant, inner), record(variant["fields"])))
        return pa.struct(columns)
    raise ValueError(f"unknown type {word}")


def record(fields):
    if not fields:
        return pa.struct([pa.field("_", pa.bool_())])
    return pa.struct([field(each["name"], each["data_type"]) for each in fields])


def column_of(variant, enum):
    name = variant["name"]
    taken = [other["name"] for other in enum["variants"]]
    while name == "variant" or (name != variant["name"] and name in taken):
        name += "_"
    return name


def cell(data_type, value):
    word, inner = kind(data_type)
    if word == "bytes":
        return bytes(value)
    if word == "option":
        if value is None:
            return None
        nested = kind(inner)[0] == "option"
        return {"value": cell(inner, value["value"])} if nested else cell(inner, value)
    if word == "list":
        return [cell(inner, item) for item in value]
    if word == "map":
        entries = sorted(value, key=lambda entry: json.dumps(entry[0]) if entry[0] is None else entry[0])
        if kind(inner[0])[0] == "option":
            return [{"key": cell(inner[0], k), "value": cell(inner[1], v)} for k, v in entries]
        return [(cell(inner[0], k), cell(inner[1], v)) for k, v in entries]
    if word == "struct":
        return cells(inner["fields"], value)
    if word == "enum":
        name, fields = variant_of(value)
        if arrow(data_type) == pa.string():
            return name
        row = {"variant": name}
        for variant in inner["variants"]:
            if variant["fields"]:
                row[column_of(variant, inner)] = cells(variant["fields"], fields) if variant["name"] == name else None
        return row
    return value


def cells(fields, value):
    if not fields:
        return {"_": None}
    return {each["name"]: cell(each["data_type"], value[each["name"]]) for each in fields}


# Files.

def segment(text):
    """The name of an operator or state as a part of a path. Readers do not look at it."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: "".join(f"~{byte:02x}" for byte in found[0].encode()), text) or "~"


def write_table(savepoint, path, fields, columns, about):
    about = {**about, "streamd.format_version": "1", "streamd.key_hash_version": "1"}
    arrays = [pa.array(values, type=each.type) for each, values in zip(fields, columns)]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))
    whole = os.path.join(savepoint, path)
    os.makedirs(os.path.dirname(whole), exist_ok=True)
    pq.write_table(table, whole, compression="lz4", row_group_size=65_536, store_schema=False)
    with open(whole, "rb") as file:
        data = file.read()
    return {"path": path, "length": len(data), "digest": xxhash.xxh3_128_hexdigest(data)}


def write_keyed(savepoint, folder, uid, state, groups, nonce):
    key, value = state["key"], state["value"]
    rows = sorted(((key_group(key, k, groups), k, v) for k, v in state["rows"]), key=lambda row: row[0])
    columns = [
        [group for group, _, _ in rows], [cell(key, k) for _, k, _ in rows], [cell(value, v) for _, _, v in rows],
    ]
    fields = [pa.field("key_group", pa.int32(), nullable=False), field("key", key), field("value", value)]
    about = {
        "streamd.operator": uid, "streamd.state": state["state"],
        "streamd.type.key": json.dumps(key), "streamd.type.value": json.dumps(value),
    }
    written = write_table(savepoint, f"{folder}/{segment(state['state'])}/0-{nonce}.parquet", fields, columns, about)
    return {
        "state": state["state"], "key": key, "value": value, "key_groups": {"start": 0, "end": groups},
        "format": "parquet", "objects": [written], "rows": len(rows), "bytes": written["length"],
    }


def write_list(savepoint, folder, uid, state):
    items, data_type = state["items"], state["data_type"]
    fields = [pa.field("position", pa.int64(), nullable=False), field("value", data_type)]
    columns = [list(range(len(items))), [cell(data_type, item) for item in items]]
    about = {"streamd.operator": uid, "streamd.state": state["name"], "streamd.type.value": json.dumps(data_type)}
    return write_table(savepoint, f"{folder}/{segment(state['name'])}.list.parquet", fields, columns, about)


def write_savepoint(savepoint, description):
    nonce = secrets.token_hex(16)
    operators, list_tables = [], []
    for operator in description["operators"]:
        uid, groups = operator["uid"], operator.get("max_parallelism", 128)
        identity = xxhash.xxh3_128_hexdigest(uid.encode())
        folder = f"{segment(uid)}-{identity[:8]}"
        keyed = [write_keyed(savepoint, folder, uid, state, groups, nonce) for state in operator.get("keyed", [])]
        lists = []
        for state in operator.get("lists", []):
            lists.append({"name": state["name"], "data_type": state["data_type"], "items": []})
            if state["items"]:
                written = write_list(savepoint, folder, uid, state)
                list_tables.append({
                    "operator": identity, "state": state["name"], "items": len(state["items"]), "object": written,
                })
        operators.append({
            "id": identity, "uid": uid, "name": uid, "parallelism": 1, "max_parallelism": groups,
            "keyed": keyed, "lists": lists,
        })
    snapshot = {
        "version": 2, "key_hash_version": 1, "kind": "savepoint", "job_id": secrets.token_hex(16), "checkpoint_id": 1,
        "triggered_at": int(time.time() * 1000), "leader_epoch": 1, "attempt": 1, "nonce": nonce,
        "graph": {"version": 1, "name": "written elsewhere", "vertices": [], "edges": [], "checkpointing": {}},
        "operators": operators,
    }
    body = json.dumps({"snapshot": snapshot, "list_tables": list_tables}).encode()
    data = b"STREAMD\n" + struct.pack("<IQ", 2, len(body)) + body
    os.makedirs(savepoint, exist_ok=True)
    # Last: a folder without it is no savepoint.
    with open(os.path.join(savepoint, "_metadata"), "xb") as file:
        file.write(data + xxhash.xxh3_128_digest(data))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_savepoint(sys.argv[1], json.load(sys.stdin))
