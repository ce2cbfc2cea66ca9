#!/usr/bin/env python3
"""Writes placement_vectors.json: what ARCHITECTURE.md says, worked out a second time, without the Rust code.

    pip install xxhash && python3 placement_vectors.py

Straightforward on purpose: every slot compares every ticket, every walk is a sort. Takes about half a minute.
"""

import json
import zlib
from pathlib import Path

import xxhash

M64 = (1 << 64) - 1
HERE = Path(__file__).parent


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def slot_hash(i):
    return mix(((i + 1) * 0x9E3779B97F4A7C15) & M64)


def tickets(member):
    name, weight = member
    return [xxhash.xxh3_64_intdigest(name.encode(), seed=t) for t in range(weight)]


def u64(n):
    return n.to_bytes(8, "little")


def text(s):
    return u64(len(s.encode())) + s.encode()


def fingerprint(scheme, members):
    ordered = members if scheme == "go-seed" else sorted(members, key=lambda m: m[0].encode())
    data = text(scheme) + u64(len(members)) + b"".join(text(name) + u64(weight) for name, weight in ordered)
    return xxhash.xxh3_64_hexdigest(data)


def slots(scheme, members, keys):
    bits = {"slots/1": 16, "slots/1/18": 18, "slots/1/20": 20}[scheme]
    ordered = sorted(members, key=lambda m: m[0].encode())
    drawn = [tickets(m) for m in ordered]

    def ranked(slot):
        h = slot_hash(slot)
        best = [max(mix(h ^ t) for t in own) for own in drawn]
        return sorted(range(len(ordered)), key=lambda m: (-best[m], m))

    table = [ranked(slot)[0] for slot in range(1 << bits)]
    places = []
    for key in keys:
        slot = xxhash.xxh3_64_intdigest(key) >> (64 - bits)
        places.append({"key": key.hex(), "slot": slot, "order": [ordered[m][0] for m in ranked(slot)]})
    return {
        "placement": scheme,
        "members": members,
        "fingerprint": fingerprint(scheme, members),
        "table_xxh3": xxhash.xxh3_64_hexdigest(b"".join(m.to_bytes(2, "little") for m in table)),
        "slots_owned": {name: table.count(m) for m, (name, _) in enumerate(ordered)},
        "places": places,
    }


def go_seed(names, keys):
    points = []
    for index, name in enumerate(names):
        points += [(zlib.crc32(f"{name}{i}".encode()), -index) for i in range(50)]
    points.sort()
    places = []
    for key in keys:
        h = zlib.crc32(key)
        walk = [p for p in points if p[0] >= h] + [p for p in points if p[0] < h]
        places.append({"key": key.hex(), "order": list(dict.fromkeys(names[-index] for _, index in walk))})
    members = [(name, 1) for name in names]
    return {
        "placement": "go-seed",
        "members": members,
        "fingerprint": fingerprint("go-seed", members),
        "places": places,
    }


def main():
    # Every branch of xxh3 by length, and bytes that are no text.
    keys = [b"a", b"abc", b"user:42", b"exactly-16-bytes", "学生-2790-成绩".encode(), b"\x00", b"\xff\xfe\x00\x80"]
    keys += [bytes(range(n)) for n in (0, 17, 100, 128, 129, 240, 241)] + [bytes(i % 251 for i in range(3000))]
    keys += [str(n).encode() for n in range(20)]
    go = json.loads((HERE / "ring_vectors.json").read_text())["vectors"]
    for vector in go:
        got = [place["order"][0] for place in go_seed(vector["peers"], [k.encode() for k in vector["keys"]])["places"]]
        assert got == vector["owner"], vector["name"]
    collisions = next(v for v in go if v["name"].startswith("label-collision"))
    three = [(f"127.0.0.1:{port}", 1) for port in (6324, 6325, 6326)]
    fleets = [
        slots("slots/1", [("127.0.0.1:6324", 1)], keys),
        slots("slots/1", three, keys),
        slots("slots/1", [(f"cache-{i}.example:6324", 1) for i in range(12)], keys),
        slots("slots/1", [("b:1", 2), ("a:1", 1), ("knoten-ü:1", 3), ("c:1", 4), ("B:1", 1)], keys),
        slots("slots/1", [("big:1", 256), ("small:1", 9)], keys),
        slots("slots/1/18", [("127.0.0.1:6326", 1), ("127.0.0.1:6324", 2), ("127.0.0.1:6325", 1)], keys),
        slots("slots/1/20", [("127.0.0.1:6326", 1), ("127.0.0.1:6324", 2), ("127.0.0.1:6325", 1)], keys),
        go_seed([name for name, _ in three], keys),
        go_seed(collisions["peers"], [k.encode() for k in collisions["keys"][:40]]),
        go_seed(collisions["peers"][::-1], [k.encode() for k in collisions["keys"][:40]]),
        go_seed(["only:1"], keys[:3]),
    ]
    empty = {scheme: fingerprint(scheme, []) for scheme in ("slots/1", "slots/1/18", "slots/1/20", "go-seed")}
    lines = ",\n".join(json.dumps(fleet, ensure_ascii=False) for fleet in fleets)
    out = f'{{"empty_fingerprints": {json.dumps(empty)},\n"fleets": [\n{lines}\n]}}\n'
    (HERE / "placement_vectors.json").write_text(out)


if __name__ == "__main__":
    main()
