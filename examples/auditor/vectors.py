#!/usr/bin/env python3
"""Says whether the auditor agrees with the vectors of the protocol, in each verdict and in the step that refuses."""

import base64, json, sys
from pathlib import Path
from cryptography.hazmat.primitives import serialization

import auditor


def in_hex(value):
    """The form in which vectors write what was read."""
    if isinstance(value, dict):
        return {name: in_hex(part) for name, part in value.items()}
    if isinstance(value, list):
        return [in_hex(part) for part in value]
    return value.hex() if isinstance(value, bytes) else value


def vector_header(given):
    header = auditor.read_header(given["header"])
    route, end = dict(header["route"]), header["end"]
    route["operation"] = {name: value for name in ("grpc_path", "http") if (value := route.pop(name)) is not None}
    end = end and {name: how for name, how in end.items() if how is not None}
    removed = header.pop("removed")
    return {**header, **({"removed": removed} if removed else {}), "route": route, "end": end, "digest": auditor.digest_of(given["header"]),
            "previous": header["previous"] or None, "metadata": header["metadata"] or None}


def vector_head(given):
    return dict(zip(("tree", "size", "root"), auditor.read_head(given["head"])))


def vector_commitment(given):
    if "commitment" in given:
        given = given["commitment"]
        return {"commitment": auditor.commitment(given["secret"], given["n"], given["flags"], given["bytes"])}
    headers = [auditor.read_header(message["header"]) for message in given["direction"]]
    auditor.check_payloads(list(zip(headers, [message["payload"] for message in given["direction"]])))
    return {}


def vector_path(given):
    if "consistency" in given:
        auditor.check_consistency(**given["consistency"])
    else:
        given = given["inclusion"]
        root = auditor.climb(given["leaf"], given["index"], given["size"], given["path"], "5.2.6")
        auditor.need(root == given["root"], "5.2.6", "another root")
    return {}


def tree_root(leaves):
    """RFC 6962 section 2.1, of leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else auditor.sha256()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return auditor.node(tree_root(leaves[:half]), tree_root(leaves[half:]))


def vector_record(given):
    (kind, given), = given.items()
    if kind == "record":
        record = bytes([given["kind"]]) + given["nonce"] + given["body"]
        return {"bytes": record, "leaf": auditor.leaf(record)}
    if kind == "commit":
        root = tree_root(given["records"])
        return {"root": root, "leaf": auditor.leaf(auditor.commit_of(len(given["records"]), root))}
    if kind == "tree":
        return {"root": tree_root(given["leaves"])}
    if kind == "seal":
        return {"digest": auditor.sha256(b"causeway/v1/seal\n", given)}
    genesis, tree = auditor.read_genesis(given)
    return {"tree": tree, **{name: genesis[name] for name in ("instance", "member", "server")}}


def vector_seal(given):
    def key_of(member, server, key, *_):
        auditor.need(given["speaker"] == {"member": member, "server": server}, "vector", "another speaker")
        for listed in given["keys"]:
            if (listed["member"], listed["server"], auditor.sha256(listed["spki"])) == (member, server, key):
                valid = listed["not_before"] <= given["now"] <= listed["not_after"] and not listed["revoked"]
                auditor.need(valid, "5.4.6", "not valid at the time, or revoked")
                return auditor.p256(serialization.load_der_public_key, listed["spki"], "5.4.6")[0]
        raise auditor.Invalid("5.4.6", "not listed")
    return auditor.check_seal(given["header"], given["seal"], given["genesis"], key_of)


def vector_checkpoint(given):
    keys = {listed["keyid"]: auditor.p256(serialization.load_der_public_key, listed["spki"], "8.4.5")[0] for listed in given["keys"]}
    return auditor.check_checkpoint(given["file"], keys, given["threshold"], given["version"], given["digest"])


def vector_timestamp(given):
    approved = [{**each, "certificate": base64.b64encode(each["certificate"]).decode()} for each in given["approved"]]
    return auditor.check_token(given["token"], given["data"], approved, {key.hex() for key in given["revoked"]})


def vector_direction(given):
    auditor.check_directions([(data, auditor.read_header(data)) for data in given["headers"]])
    return {}


def vector_evidence(given, directory):
    if "text" in given:
        evidence = given["text"].encode()
    else:
        read = json.loads((directory / given["file"]).read_text("utf-8"))
        for change in given["changes"]:
            *path, last = change["at"]
            place = read
            for name in path:
                place = place[name]
            if "set" in change:
                place[last] = change["set"]
            else:
                del place[last]
        evidence = json.dumps(read).encode()
    anchor = base64.b64decode(given["anchor"]) if "anchor" in given else (directory / "anchor.json").read_bytes()
    auditor.verify(evidence, anchor, [])
    return {}


def vector_container(given, directory):
    container = bytearray((directory / given["container"]).read_bytes()[:given.get("length")])
    for at, other in given.get("edits", []):
        other = bytes.fromhex(other)
        container[at:at + len(other)] = other
    auditor.verify(bytes(container), (directory.parent / "evidence" / "anchor.json").read_bytes(), [])
    return {}


VECTORS = {"header": vector_header, "head": vector_head, "commitment": vector_commitment, "path": vector_path,
           "record": vector_record, "seal": vector_seal, "direction": vector_direction,
           "timestamp": vector_timestamp, "checkpoint": vector_checkpoint, "evidence": vector_evidence,
           "container": vector_container}


TEXTS = ("member", "server", "text", "name", "policy", "keyid")


def from_hex(value, name=None):
    if isinstance(value, dict):
        return {name: from_hex(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [from_hex(part, name) for part in value]
    return bytes.fromhex(value) if isinstance(value, str) and name not in TEXTS else value


def agrees(group, case, directory):
    """What was found, and whether the case expects it; `3.1` may stand for any step of it."""
    try:
        given = (case["input"], directory) if group in ("evidence", "container") else (from_hex(case["input"]),)
        found = {"accept": in_hex(VECTORS[group](*given))}
    except auditor.Invalid as invalid:
        found = {"refused": invalid.step}
    wanted = case["expected"]
    return found, found == wanted or (wanted.get("refused") == "3.1" and found.get("refused", "").startswith("3.1."))


def main(directory):
    """Each group is a file, or a directory with its cases and what they are made of. All that is there is judged."""
    groups = {path.stem: path for path in Path(directory).glob("*.json") if path.name != "keys.json"}
    groups.update({path.name: path / "cases.json" for path in Path(directory).iterdir() if path.is_dir()})
    failed = not groups
    for group in sorted(groups.keys() | VECTORS.keys()):
        if group not in VECTORS or group not in groups:
            print(f"{group}: an unknown group" if group in groups else f"{group}: no vectors")
            failed = True
            continue
        cases = json.loads(groups[group].read_text("utf-8"))["cases"]
        results = [(case, *agrees(group, case, groups[group].parent)) for case in cases]
        agreed = sum(same for _, _, same in results)
        failed |= agreed != len(cases) or not cases
        print(f"{group}: {agreed} of {len(cases)} agree")
        for case, found, same in results:
            if not same:
                print(f"  {case['name']}: expected {json.dumps(case['expected'])}, found {json.dumps(found)}")
    return 5 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: vectors.py DIRECTORY, where DIRECTORY is proto/vectors")
    sys.exit(main(sys.argv[1]))
