#!/usr/bin/env python3
"""Verifies evidence of a Causeway exchange, with the anchor and nothing else. Written from PROTOCOL.md alone, whose
steps the findings name; it shares no code with the servers. Standard library and `cryptography` only."""

import argparse, base64, hashlib, hmac, io, json, re, sys, unicodedata, zipfile
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID


class Invalid(Exception):
    def __init__(self, step, why):
        super().__init__(f"{step}: {why}")
        self.step, self.why = step, why


def need(truth, step, why):
    if not truth:
        raise Invalid(step, why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text, step):
    """Standard base64 with padding, in the one form that encoding would give."""
    try:
        found = base64.b64decode(text.encode("ascii"), validate=True)
    except (AttributeError, ValueError):
        raise Invalid(step, "not base64") from None
    need(base64.b64encode(found).decode() == text, step, "not canonical base64")
    return found


# ---- 3.1 canonical protobuf. Fields are numbered from 1, in the order of this list; `*` is repeated, `?` of the oneof.

SCHEMAS = {name: [re.fullmatch(r"(\w+):(\w+)([*?]?)", field).groups() for field in fields.split()] for name, fields in {
    "Header": "route:Route exchange:bytes attempt:u32 direction:enum position:u64 time:u64"
              " configuration:ConfigurationVersion opening:Opening answer:Answer previous:bytes metadata:bytes"
              " pieces:bytes* end:End removed:bytes",
    "Route": "instance:text consumer:text consumer_server:text provider:text provider_server:text grpc_path:text?"
             " http:HttpOperation?",
    "HttpOperation": "verb:text target:text",
    "ConfigurationVersion": "version:u64 digest:bytes",
    "Opening": "purpose:text legal_basis:text subject:text represented_party:text timeout_ms:u64",
    "Answer": "opening:bytes handed_on:u64",
    "End": "half_close:HalfClose? trailers:Trailers? abort:Abort? refused:Refused?",
    "HalfClose": "", "Trailers": "commitment:bytes status:u32", "Abort": "cause:enum", "Refused": "code:text",
    "Payload": "secret:bytes metadata:bytes pieces:bytes* trailers:bytes",
    "Metadata": "fields:Field*", "Field": "name:text value:bytes",
    "Seal": "nonce:bytes record:u32 records:u32 record_path:bytes* commit:u64 commit_path:bytes* head:bytes key:bytes"
            " signature:bytes",
    "Genesis": "instance:text member:text server:text random:bytes before:bytes before_size:u64 before_root:bytes"
               " cut_bytes:u64 why:enum",
    "Closed": "exchange:bytes attempt:u32 outcome:enum side:enum opening:bytes", "KeyChange": "before:bytes after:bytes",
    "Stamp": "head:bytes token:bytes",
    "Place": "timestamp:u32 received:bool nonce:bytes record:u32 records:u32 record_path:bytes* commit:u64"
             " commit_path:bytes*",
}.items()}
DEFAULTS = {"bytes": b"", "text": "", "u32": 0, "u64": 0, "enum": 0, "bool": 0}


def varint(data, at, step):
    value = 0
    for count in range(10):
        need(at < len(data), step.format(5), "a varint is cut off")
        byte = data[at]
        value, at = value | (byte & 0x7F) << 7 * count, at + 1
        if byte < 0x80:
            need((byte or not count) and value < 1 << 64, step.format(4), "a varint is longer than it can be")
            return value, at
    raise Invalid(step.format(5), "a varint without an end")


def decode(name, data, step="3.1.{}"):
    """The message as a dict with every field. What another encoder could have written differently is refused."""
    schema, found, at, last = SCHEMAS[name], {}, 0, 0
    while at < len(data):
        tag, at = varint(data, at, step)
        number, wire = tag >> 3, tag & 7
        need(1 <= number <= len(schema), step.format(2), f"{name} has an unknown field")
        field, kind, mark = schema[number - 1]
        need(mark == "*" or field not in found, step.format(2), f"{name}.{field} is there twice")
        need(number > last or field in found and number == last, step.format(1), f"{name}.{field} is out of order")
        need(wire == (0 if kind in ("u32", "u64", "enum", "bool") else 2), step.format(5), f"{name}.{field} has another type")
        last, (value, at) = number, varint(data, at, step)
        if wire == 2:
            need(value <= len(data) - at, step.format(5), f"{name}.{field} is cut off")
            value, at = data[at:at + value], at + value
        if kind == "text":
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                raise Invalid(step.format(5), f"{name}.{field} is not UTF-8") from None
        elif kind in SCHEMAS:
            value = decode(kind, value, step)
        elif kind in ("u32", "enum"):  # of an enum also the negative numbers, which are of no list
            need(value < (1 << 32 if kind == "u32" else 1 << 31) or kind == "enum" and value >= (1 << 64) - (1 << 31),
                 step.format(4), f"{name}.{field} is too large")
        need(kind != "bool" or value < 2, step.format(4), f"{name}.{field} is longer than it can be")
        need(mark or kind in SCHEMAS or value != DEFAULTS[kind], step.format(3), f"{name}.{field} writes its default")
        found[field] = found.get(field, []) + [value] if mark == "*" else value
    need(sum(mark == "?" and field in found for field, _, mark in schema) <= 1, step.format(2), "two of a oneof")
    return {field: found.get(field, [] if mark == "*" else None if mark else DEFAULTS.get(kind))
            for field, kind, mark in schema}


# ---- 2 identifiers, 3.2 headers, 3.3 directions

SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
REQUEST, ANSWER = 1, 2


def identifier(text, segments):
    return re.fullmatch("/".join([SEGMENT] * segments), text) is not None


def method_path(text):
    return len(text) <= 256 and re.fullmatch(r"/[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*", text) is not None


def member_of(text):
    return "/".join(text.split("/")[:3])


def read_header(data):
    need(len(data) <= 16384, "3.2.7", "the header is too long")
    header = decode("Header", data)
    route, end, opening, answer = header["route"], header["end"], header["opening"], header["answer"]
    request, position = header["direction"] == REQUEST, header["position"]
    need(route and header["configuration"], "3.2.1", "no route or configuration")
    need(len(header["exchange"]) == 16 and header["direction"] in (REQUEST, ANSWER) and header["attempt"] >= 1, "3.2.1",
         "exchange, direction or attempt")
    need(identifier(route["instance"], 1), "3.2.1", "instance")
    for field in ("consumer", "consumer_server", "provider", "provider_server"):
        need(identifier(route[field], 4) and route[field].split("/")[0] == route["instance"], "3.2.1", field)
    if route["http"]:
        need(re.fullmatch(r"[A-Z]{1,16}", route["http"]["verb"]), "3.2.1", "verb")
        need(re.fullmatch(r"/[!-~]{0,8191}", route["http"]["target"]), "3.2.1", "target")
    else:
        need(route["grpc_path"] is not None and method_path(route["grpc_path"]), "3.2.1", "operation")
    need((opening is not None) == (request and position == 0), "3.2.2", "opening")
    need((answer is not None) == (not request), "3.2.2", "answer")
    need(bool(header["previous"]) == (position > 0), "3.2.3", "previous")
    need(not header["metadata"] or position == 0, "3.2.3", "metadata past position 0")
    need(header["metadata"] or not (request and position == 0), "3.2.3", "a request without metadata")
    need(position == 0 or header["pieces"] or end, "3.2.4", "an empty message")
    need(len(header["pieces"]) <= 64, "3.2.4", "too many pieces")
    need(not header["removed"] or not request and header["pieces"], "3.2.4", "what was removed, of no answer's pieces")
    if end:
        need(any(how is not None for how in end.values()), "3.2.5", "an end of no kind")
        need(end["half_close"] is None or request, "3.2.5", "half_close in an answer")
        need(end["trailers"] is None and end["refused"] is None or not request, "3.2.5", "a request's end")
        need(end["abort"] is None or 1 <= end["abort"]["cause"] <= 10, "3.2.5", "an abort without a cause")
        need(end["refused"] is None or len(end["refused"]["code"].encode()) <= 64, "3.2.5", "the code is too long")
    for field in ("purpose", "legal_basis", "subject", "represented_party") if opening else ():
        need(len(opening[field].encode()) <= 256 and not any(unicodedata.category(c) == "Cc" for c in opening[field]),
             "3.2.5", field)
    digests = [header["configuration"]["digest"], *header["pieces"], header["previous"] or bytes(32),
               header["metadata"] or bytes(32), header["removed"] or bytes(32), answer["opening"] if answer else bytes(32),
               end["trailers"]["commitment"] if end and end["trailers"] is not None else bytes(32)]
    need(all(len(digest) == 32 for digest in digests), "3.2.6", "a digest or commitment is not of 32 bytes")
    return header


def digest_of(header_bytes):
    return sha256(b"causeway/v1/message\n", header_bytes)


def check_directions(messages):
    """3.3 for both directions of one attempt: `messages` are (bytes, header), in the order in which they came."""
    came, shared = {REQUEST: [], ANSWER: []}, ("route", "exchange", "attempt")
    for data, header in messages:
        requests, own = came[REQUEST], came[header["direction"]]
        _, before = own[-1] if own else (None, None)
        need(not before or before["end"] is None, "3.3.4", "a message follows the end")
        need(header["position"] == len(own), "3.3.1", f"position {header['position']} stands at {len(own)}")
        need(not own or header["previous"] == digest_of(own[-1][0]), "3.3.1", "previous")
        need(all(header[field] == messages[0][1][field] for field in shared), "3.3.2", "another exchange")
        if header["answer"]:
            need(requests, "3.3.3", "an answer without its request")
            need(header["answer"]["opening"] == digest_of(requests[0][0]), "3.3.3", "answers another opening")
            handed_on = before["answer"]["handed_on"] if before else 0
            need(handed_on <= header["answer"]["handed_on"] <= len(requests), "3.3.3", "handed_on")
        own.append((data, header))


# ---- 3.4 commitments, 3.5 payloads

PIECE, METADATA, TRAILERS = 0, 1, 2


def commitment(secret, number, flags, data):
    salt = hmac.new(secret, number.to_bytes(8, "big"), hashlib.sha256).digest()
    return sha256(b"causeway/v1/piece\n", salt, bytes([flags]), len(data).to_bytes(8, "big"), data)


def committed(header):
    """What a header commits to, in order: (flags, commitment)."""
    trailers = header["end"]["trailers"] if header["end"] else None
    return ([(METADATA, header["metadata"])] if header["metadata"] else []) + \
        [(PIECE, piece) for piece in header["pieces"]] + ([(TRAILERS, trailers["commitment"])] if trailers else [])


def check_metadata(data):
    fields = decode("Metadata", data, "3.4")["fields"]
    need(len(data) <= 16384 and len(fields) <= 100, "3.4", "too much metadata")
    for field in fields:
        need(re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", field["name"]), "3.4", "a field's name")
        need(re.fullmatch(rb"[^\x00-\x08\x0a-\x1f\x7f]*", field["value"]), "3.4", "a field's value")


def check_payloads(messages):
    """3.5 for one direction: `messages` are (header, payload bytes, None where erased), from position 0 on."""
    secret, number, missing = None, 0, False
    for header, payload in messages:
        wanted, first = committed(header), number == 0
        number += len(wanted)
        if payload is None:
            missing |= bool(wanted)
            continue
        payload, kinds = decode("Payload", payload, "7.6"), [flags for flags, _ in wanted]
        need(not missing, "7.6", "a payload after one that was not kept")
        need(len(payload["pieces"]) == kinds.count(PIECE), "3.5.1", "another number of pieces")
        need(METADATA in kinds or not payload["metadata"], "3.5.1", "metadata that nothing commits to")
        need(TRAILERS in kinds or not payload["trailers"], "3.5.1", "trailers that nothing commits to")
        need(len(payload["secret"]) == (32 if wanted and first else 0), "3.5.2", "a secret too few, or too many")
        secret = payload["secret"] or secret
        need(all(len(piece) <= 65536 for piece in payload["pieces"]), "3.4", "a piece is too long")
        need(sum(map(len, payload["pieces"])) <= 262144, "3.4", "the pieces are too long together")
        pieces = iter(payload["pieces"])
        for at, (flags, expected) in enumerate(wanted, number - len(wanted)):
            data = next(pieces) if flags == PIECE else payload["metadata" if flags == METADATA else "trailers"]
            if flags != PIECE:
                check_metadata(data)
            need(commitment(secret, at, flags, data) == expected, "3.5.3", f"commitment {at} is to something else")


# ---- 4 signatures, 5 the log and the seal

def p256(load, data, step):
    """The P-256 key that `load` reads from data, and its SubjectPublicKeyInfo as 4.1 wants it."""
    try:
        key = load(data)
        spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Invalid(step, "not a public key") from None
    need(isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1), step, "not a P-256 key")
    return key, spki


def signed(key, signature, data):
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def leaf(data):
    return sha256(b"\0", data)


def node(left, right):
    return sha256(b"\1", left, right)


def climb(hash_, index, size, path, step):
    """RFC 9162 section 2.1.3.2: the root that an inclusion path leads to."""
    need(index < size, step, "the index is outside of the tree")
    last = size - 1
    for other in path:
        need(last > 0, step, "too many hashes")
        if index & 1 or index == last:
            hash_ = node(other, hash_)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            hash_ = node(hash_, other)
        index, last = index >> 1, last >> 1
    need(last == 0, step, "too few hashes")
    return hash_


def check_consistency(old_size, new_size, old_root, new_root, proof, step="5.2.6"):
    """RFC 9162 section 2.1.4.2."""
    need(0 < old_size <= new_size, step, "the sizes")
    if old_size == new_size:
        need(not proof and old_root == new_root, step, "one size and two roots, or a proof")
        return
    path = ([old_root] if old_size & (old_size - 1) == 0 else []) + proof
    need(path, step, "too few hashes")
    index, last, old, new = old_size - 1, new_size - 1, path[0], path[0]
    while index & 1:
        index, last = index >> 1, last >> 1
    for other in path[1:]:
        need(last > 0, step, "too many hashes")
        if index & 1 or index == last:
            old, new = node(other, old), node(other, new)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            new = node(new, other)
        index, last = index >> 1, last >> 1
    need(last == 0 and old == old_root and new == new_root, step, "too few hashes, or another root")


def commit_of(records, root):
    return b"causeway/v1/commit\n" + records.to_bytes(4, "big") + root


def read_head(data, step="5.3"):
    parts = re.fullmatch(rb"causeway\.v1/([0-9a-f]{64})\n(0|[1-9][0-9]{0,19})\n([A-Za-z0-9+/]{43}=)\n", data)
    need(parts, step, "not a head")
    name, size, root = (part.decode() for part in parts.groups())
    need(int(size) < 1 << 64, step, "not a head")
    return name, int(size), unbase64(root, step)


def read_genesis(record):
    need(len(record) >= 17 and record[0] == 1, "5.4.2", "not a genesis record")
    genesis = decode("Genesis", record[17:], "5.4.2")
    digests = all(len(genesis[field]) in (0, 32) for field in ("before", "before_root"))
    need(len(record) <= 1024 and digests, "5.4.2", "the genesis is too long, or names no tree before it")
    need(len(genesis["random"]) == 32 and 1 <= genesis["why"] <= 4, "5.4.2", "no random bytes, or no reason")
    return genesis, hashlib.sha256(record).hexdigest()


def check_seal(header_bytes, seal_bytes, genesis_bytes, key_of):
    """5.4. `key_of(member, server, key id, header, head)` is the configuration's answer: a public key, or Invalid."""
    header = read_header(header_bytes)
    route, side = header["route"], "consumer" if header["direction"] == REQUEST else "provider"
    member, server = member_of(route[side]), route[side + "_server"]
    genesis, tree = read_genesis(genesis_bytes)
    need(genesis["instance"] == route["instance"], "5.4.2", "the genesis is of another instance")
    need(genesis["member"] == member and genesis["server"] == server, "5.4.2", "the genesis is of another sender")
    seal = decode("Seal", seal_bytes, "5.4.3")
    need(len(seal["nonce"]) == 16 and len(seal["key"]) == 32 and len(seal["signature"]) <= 72, "5.4.3", "a length")
    need(all(len(hash_) == 32 for hash_ in seal["record_path"] + seal["commit_path"]), "5.4.3", "a hash of a path")
    need(seal["records"] <= 65536, "5.4.3", "more records than a commit holds")
    need(len(seal["record_path"]) <= 16 and len(seal["commit_path"]) <= 64, "5.4.3", "a path is too long")
    named, size, root = read_head(seal["head"], "5.4.3")
    need(named == tree, "5.4.3", "the head is of another tree")
    record = leaf(b"\2" + seal["nonce"] + header_bytes)
    commit = commit_of(seal["records"], climb(record, seal["record"], seal["records"], seal["record_path"], "5.4.4"))
    need(climb(leaf(commit), seal["commit"], size, seal["commit_path"], "5.4.5") == root, "5.4.5", "not in the log")
    key = key_of(member, server, seal["key"], header, seal["head"])
    need(signed(key, seal["signature"], seal["head"]), "5.4.7", "the signature does not hold")
    return {"tree": tree, "size": size, "root": root, "key": seal["key"]}


# ---- 8 the global configuration: TUF metadata, and an excerpt of one version

def ledger_name(genesis):
    """8.4.1."""
    text = f"causeway/v1/ledger\n{genesis['instance']}\n{genesis['first']}\n"
    if before := genesis.get("before"):
        text += f"{before['ledger']}\n{before['size']}\n{before['root']}\n"
    return sha256(text.encode())


def check_checkpoint(data, keys, threshold, version, digest):
    """8.4.2 to 8.4.5: that the checkpoint in this file is signed, and its last leaf this version. Gives what it says."""
    step = "8.4.4"
    need(len(data) <= 32768, step, "the file of the checkpoint is too long")
    read = read_json(data, step)
    sha, u64 = "[0-9a-f]{64}", lambda value: type(value) is int and 0 <= value < 1 << 64
    need(isinstance(read, dict) and list(read) == ["checkpoint", "geneses", "path", "signatures"], step, "not of this form")
    need(fits(read["checkpoint"], str) and fits(read["path"], [sha]) and len(read["path"]) <= 64, step, "not of this form")
    need(isinstance(read["geneses"], list) and 1 <= len(read["geneses"]) <= 64, step, "not of this form")
    for genesis in read["geneses"]:
        need(isinstance(genesis, dict) and list(genesis) in (["instance", "first"], ["instance", "first", "before"]), step, "no genesis")
        need(fits(genesis["instance"], str) and identifier(genesis["instance"], 1) and u64(genesis["first"]), step, "no genesis")
        if "before" in genesis:
            before = genesis["before"]
            need(isinstance(before, dict) and list(before) == ["ledger", "size", "root"] and u64(before["size"])
                 and fits(before["ledger"], sha) and fits(before["root"], sha), step, "no genesis")
    need(isinstance(read["signatures"], list) and len(read["signatures"]) <= 16, step, "not of this form")
    for signature in read["signatures"]:
        need(isinstance(signature, dict) and list(signature) == ["keyid", "sig"], step, "not of this form")
        need(fits(signature["keyid"], str) and fits(signature["sig"], str), step, "not of this form")
    need(json.dumps(read, separators=(",", ":"), ensure_ascii=False).encode() == data, step, "not in its one form")
    for newer, older in zip(read["geneses"], read["geneses"][1:]):
        follows = newer.get("before", {}).get("ledger") == ledger_name(older).hex() and newer["instance"] == older["instance"]
        need(follows, step, "the geneses do not follow one another")
    found = re.fullmatch(r"causeway\.ledger\.v1/([0-9a-f]{64})\n([1-9][0-9]{0,19})\n([A-Za-z0-9+/]{43}=)\n", read["checkpoint"])
    need(found, step, "no checkpoint")
    name, size, root = found[1], int(found[2]), unbase64(found[3], step)
    need(size < 1 << 64 and name == ledger_name(read["geneses"][0]).hex(), step, "its genesis is another ledger's")
    step, good = "8.4.5", set()
    for signature in read["signatures"]:
        if signature["keyid"] in keys and fits(signature["sig"], "([0-9a-f]{2})*"):
            if signed(keys[signature["keyid"]], bytes.fromhex(signature["sig"]), read["checkpoint"].encode()):
                good.add(signature["keyid"])
    need(len(good) >= max(threshold, 1), step, f"{len(good)} of {threshold} signatures hold")
    need(version == read["geneses"][0]["first"] + size - 1, step, "another version")
    last = leaf(b"causeway/v1/ledger-version\n" + version.to_bytes(8, "big") + digest)
    reached = climb(last, size - 1, size, [bytes.fromhex(hash_) for hash_ in read["path"]], step)
    need(reached == root, step, "the ledger does not contain this version")
    return {"ledger": bytes.fromhex(name), "size": size, "root": root}


def read_json(data, step):
    def once(pairs):
        need(len(pairs) == len(dict(pairs)), step, "a name stands twice in an object")
        return dict(pairs)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")  # no lone surrogates, no NaN
    except (ValueError, RecursionError):
        raise Invalid(step, "not JSON") from None
    return value


def fits(value, form):
    """`form` is an object of exactly these fields (one with a `?` may be missing), [of each], a pattern, a type, a test."""
    if isinstance(form, dict):
        return type(value) is dict and value.keys() <= {name.rstrip("?") for name in form} and all(
            fits(value[name.rstrip("?")], of) if name.rstrip("?") in value else name[-1] == "?"
            for name, of in form.items())
    if isinstance(form, list):
        return type(value) is list and all(fits(each, form[0]) for each in value)
    if isinstance(form, str):
        return type(value) is str and re.fullmatch(form, value) is not None
    return type(value) is form if isinstance(form, type) else form(value)


def part(value, step, kind, *path):
    for name in path:
        need(type(value) is dict and name in value, step, f"no {name}")
        value = value[name]
    need(type(value) is kind, step, f"{path[-1]} is of another type")
    return value


def moment(text, step):
    """Milliseconds since 1970, of RFC 3339 in UTC."""
    try:
        parts = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?Z", text)
        whole = datetime.strptime(parts[1], "%Y-%m-%dT%H:%M:%S") - datetime(1970, 1, 1)
    except (TypeError, ValueError):
        raise Invalid(step, "not a time") from None
    return 1000 * (whole // timedelta(seconds=1) + Fraction("0" + (parts[2] or "")))


def canonical_json(value, step):
    if isinstance(value, dict):
        return "{" + ",".join(canonical_json(name, step) + ":" + canonical_json(value[name], step)
                              for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_json(each, step) for each in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    need(not isinstance(value, float), step, "a number that is no integer")
    return json.dumps(value)


def metadata(data, kind, step, limit=1048576):
    """8.1.2: what is signed, and by whom, before it is known who may."""
    need(data is not None and len(data) <= limit, step, "the file is not there, or too long")
    envelope = read_json(data, step)
    signed, _ = part(envelope, step, dict, "signed"), part(envelope, step, list, "signatures")
    need(part(signed, step, str, "_type") == kind, step, "metadata of another kind")
    need(part(signed, step, str, "spec_version").split(".")[0] == "1", step, "another major version of TUF")
    part(signed, step, int, "version"), moment(part(signed, step, str, "expires"), step)
    return envelope


def check_signatures(envelope, keys, role, step):
    """8.1.4 and 8.1.5."""
    known, spkis = {}, set()
    for keyid, key in keys.items():
        scheme = part(key, step, str, "keytype"), part(key, step, str, "scheme")
        need(scheme == ("ecdsa", "ecdsa-sha2-nistp256"), step, "a key of another scheme")
        pem = part(key, step, str, "keyval", "public").encode()
        known[keyid], spki = p256(serialization.load_pem_public_key, pem, step)
        need(spki not in spkis, step, "one key stands under two names")
        spkis.add(spki)
    keyids, threshold = part(role, step, list, "keyids"), part(role, step, int, "threshold")
    need(threshold >= 1 and fits(keyids, [str]), step, "a role without keys, or without a threshold")
    data, seen, good = canonical_json(envelope["signed"], step).encode(), set(), 0
    for signature in envelope["signatures"]:
        keyid, sig = part(signature, step, str, "keyid"), part(signature, step, str, "sig")
        if keyid in keyids and sig:
            need(keyid not in seen, step, "a keyid signs twice")
            seen.add(keyid)
            good += keyid in known and fits(sig, "([0-9a-fA-F]{2})*") and signed(known[keyid], bytes.fromhex(sig), data)
    need(good >= threshold, step, f"{good} of {threshold} signatures hold")


def check_fresh(signed, at, step):
    need(at < moment(signed["expires"], step), step, "expired")


def check_file(data, entry, step):
    """That the file is the one that `length` and `hashes` of an entry name, where they are there."""
    need(entry.get("length", len(data)) == len(data), step, "of another length")
    need("hashes" not in entry or part(entry, step, str, "hashes", "sha256") == sha256(data).hex(), step, "other bytes")


def delegation(delegations, step, wanted):
    """The one delegated role that is wanted."""
    roles = part(delegations, step, list, "roles")
    names = [part(role, step, str, "name") for role in roles]
    need(fits(names, ["[a-z0-9-]{1,32}"]) and len(set(names)) == len(names), step, "the names of roles")
    found = [role for role in roles if wanted(role)]
    need(len(found) == 1, step, "not exactly one delegation")
    return found[0]


def allows(role, path):
    if "path_hash_prefixes" in role:
        digest = sha256(path.encode()).hex()
        return fits(role["path_hash_prefixes"], [str]) and any(map(digest.startswith, role["path_hash_prefixes"]))
    patterns = role.get("paths") if fits(role.get("paths"), [str]) else []
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]"), path, re.DOTALL)
               for pattern in patterns)


def certificate(text):
    return x509.load_der_x509_certificate(unbase64(text, "8.3"))


def is_certificate(text):
    try:
        return bool(certificate(text))
    except (Invalid, ValueError, x509.InvalidVersion):
        return False


def is_u64(value):
    return type(value) is int and 0 <= value < 1 << 64


def is_head(value):
    try:
        return type(value) is str and bool(read_head(value.encode()))
    except (UnicodeEncodeError, Invalid):
        return False


SEGMENTS4 = "/".join([SEGMENT] * 4)
TSA_FORM = {"name": str, "certificate": is_certificate, "policy?": r"[0-2](\.(0|[1-9][0-9]*))+",
            "address?": r"http://[^/@?#\s]+(/[^#\s]*)?"}


def is_timestamping(listed):
    return fits(listed, [TSA_FORM]) and len(listed) <= 8 and len({each["name"] for each in listed}) == len(listed)


def is_text(value):
    """1 to 500 bytes on one line, without control characters (18.2)"""
    return (isinstance(value, str) and value.strip() != "" and len(value.encode()) <= 500
            and not any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
                        for letter in value))


def is_purposes(listed):
    return (fits(listed, [{"purpose": r"(?=.{1,64}\Z)[a-z0-9]+(-[a-z0-9]+)*", "en": is_text, "vi": is_text}])
            and len(listed) <= 200 and len({each["purpose"] for each in listed}) == len(listed))


INSTANCE_FORM = {"instance": SEGMENT, "name": str, "authorities": [is_certificate], "timestamping?": is_timestamping,
                 "purposes?": is_purposes}


def member_form(member):
    own = re.escape(member) + "/" + SEGMENT
    return {"member": re.escape(member), "name": str, "standing": "active|suspended",
            "subsystems": [{"subsystem": own, "servers": [SEGMENTS4]}],
            "servers": [{"server": own, "address": str, "authentication": [is_certificate], "maintenance?": str}],
            "signing": [{"server": SEGMENTS4, "certificate": is_certificate, "until?": is_u64}]}


def signing_keys(document, step):
    """The signing certificates of a member's document: key name to (listed, certificate, key). Nothing stands twice."""
    found = {}
    for listed in document["signing"]:
        read = certificate(listed["certificate"])
        key, spki = p256(x509.Certificate.public_key, read, step)
        need(spki in read.tbs_certificate_bytes, step, "a signing key in another encoding")
        need(sha256(spki) not in found, step, "a signing key stands twice")
        found[sha256(spki)] = listed, read, key
    for kind in "subsystem", "server":
        names = [each[kind] for each in document[kind + "s"]]
        need(len(names) == len(set(names)), step, f"a {kind} stands twice")
    return found


def excerpt(anchor, files, members, keys, at):
    """8.2: the instance's document, the timestamp's version, (standing, signing keys) of each member, revoked keys: name to last head."""
    step = "8.2.1"
    envelope = metadata(anchor, "root", step)
    root = envelope["signed"]
    check_signatures(envelope, part(root, step, dict, "keys"), part(root, step, dict, "roles", "root"), step)
    while (data := files.get(f"{root['version'] + 1}.root.json")) is not None:
        envelope, former = metadata(data, "root", step), root
        root = envelope["signed"]
        need(root["version"] == former["version"] + 1, step, "a root of another version than its file")
        for each in former, root:
            check_signatures(envelope, part(each, step, dict, "keys"), part(each, step, dict, "roles", "root"), step)
    check_fresh(root, at, step)

    def verified(data, kind, keys, role, step, limit=1048576):
        envelope = metadata(data, kind, step, limit)
        check_signatures(envelope, keys, role, step)
        check_fresh(envelope["signed"], at, step)
        return envelope["signed"]

    def of_root(data, role, step, **more):
        return verified(data, role, part(root, step, dict, "keys"), part(root, step, dict, "roles", role), step, **more)

    timestamp = of_root(files.get("timestamp.json"), "timestamp", "8.2.2", limit=16384)
    need(moment(part(timestamp, "8.2.2", str, "signed_at"), "8.2.2") <= moment(timestamp["expires"], "8.2.2"), "8.2.2",
         "signed after it expires")
    step = "8.2.3"
    entry = part(timestamp, step, dict, "meta", "snapshot.json")
    part(entry, step, str, "hashes", "sha256")
    data = files.get(f"{part(entry, step, int, 'version')}.snapshot.json")
    snapshot = of_root(data, "snapshot", step)
    check_file(data, entry, step)
    need(snapshot["version"] == entry["version"], step, "of another version")

    def role_file(name, step):
        entry = part(snapshot, step, dict, "meta", name + ".json")
        data = files.get(f"{part(entry, step, int, 'version')}.{name}.json")
        need(data is not None, step, f"{name} is not there")
        check_file(data, entry, step)
        need(metadata(data, "targets", step)["signed"]["version"] == entry["version"], step, "of another version")
        return data

    def delegated(delegations, role, step):
        return verified(role_file(role["name"], step), "targets", part(delegations, step, dict, "keys"), role, step)

    def document(signed, path, form, step):
        entry = part(signed, step, dict, "targets", path)
        directory, _, name = path.rpartition("/")
        data = files.get(f"{directory}{'/' if directory else ''}{part(entry, step, str, 'hashes', 'sha256')}.{name}")
        need(data is not None and len(data) <= 262144, step, f"{path} is not there, or too long")
        part(entry, step, int, "length"), check_file(data, entry, step)
        read = read_json(data, step)
        need(fits(read, form), step, f"{path} is not of its form")
        return read

    targets = of_root(role_file("targets", "8.2.4"), "targets", "8.2.4")
    governed = document(targets, "instance.json", INSTANCE_FORM, "8.2.4")
    instance = governed["instance"]
    step, found = "8.2.5", {}
    outer = part(targets, step, dict, "delegations")
    to_members = delegation(outer, step, lambda role: role["name"] == "members")
    bins = part(delegated(outer, to_members, step), step, dict, "delegations")
    for member in members:
        path = f"members/{member}.json"
        need(member.split("/")[0] == instance, step, "a member of another instance")
        need(allows(to_members, path), step, "members is not delegated the path")
        signed_bin = delegated(bins, delegation(bins, step, lambda role: allows(role, path)), step)
        read = document(signed_bin, path, member_form(member), step)
        found[member] = read["standing"], signing_keys(read, step)
    step, revoked = "8.2.6", {}
    to_revoked = delegation(outer, step, lambda role: role["name"] == "revoked")
    lists = delegated(outer, to_revoked, step)
    for first in sorted({key.hex()[0] for key in keys}):
        need(allows(to_revoked, f"revoked/{first}.json"), step, "revoked is not delegated the path")
        form = {"keys": [first + "[0-9a-f]{63}"], "last_heads?": [{"key": str, "head": is_head}]}
        read = document(lists, f"revoked/{first}.json", form, step)
        revoked |= dict.fromkeys(read["keys"])
        for last in read.get("last_heads", []):
            need(last["key"] in revoked and not revoked[last["key"]], step, "a last head of no key, or a second one")
            revoked[last["key"]] = last["head"]
    return governed, timestamp["version"], found, revoked


def signing_key(members, revoked, member, server, name, at, head):
    """8.3 and 5.4.6: the member's signing key of that name, if it is good at the time; 7.5: or for this last head."""
    standing, keys = members[member]
    need(standing == "active", "5.4.6", "the member is suspended")
    need(name in keys and keys[name][0]["server"] == server, "5.4.6", "no such key is listed")
    need(revoked.get(name.hex(), head.decode()) == head.decode(), "5.4.6", "the key is revoked")
    listed, read, key = keys[name]
    begins, ends = (1000 * int(time.timestamp()) for time in (read.not_valid_before_utc, read.not_valid_after_utc))
    need(begins <= at <= ends, "5.4.6", "the key's certificate is not valid at the time")
    need(at <= listed.get("until", at), "5.4.6", "another key had taken its place by then")
    return key


# ---- 7 evidence

EVIDENCE_FORM = {"format": "causeway/v1/evidence", "exchange": "[0-9a-f]{32}", "configuration": dict, "messages": list,
                 "timestamps?": lambda listed: fits(listed, [str]) and listed,
                 "holder": {"member": "/".join([SEGMENT] * 3), "server": SEGMENTS4}}
MESSAGE_FORM = {"header": str, "seal": str, "genesis": str, "payload?": str, "place?": str}


def read_evidence(data):
    """7.1: the exchange, the holder, files by name, messages as dicts of bytes, and timestamps."""
    need(len(data) <= 268435456, "7.1", "the file is too long")
    read = read_json(data, "7.1")
    need(fits(read, EVIDENCE_FORM) and 1 <= len(read["messages"]) <= 100000, "7.1", "not of the form")
    for message in read["messages"]:
        need(fits(message, MESSAGE_FORM), "7.1", "a message's form")
    need(len(read.get("timestamps", [])) <= len(read["messages"]), "7.1", "more timestamps than messages")
    timestamps = [unbase64(text, "7.1") for text in read.get("timestamps", [])]
    files = {name: unbase64(text, "7.1") for name, text in read["configuration"].items()}
    messages = [{name: unbase64(text, "7.1") for name, text in message.items()} for message in read["messages"]]
    return read["exchange"], read["holder"], files, messages, timestamps


def read_headers(exchange, messages):
    for message in messages:
        message["read"] = read_header(message["header"])
        need(message["read"]["exchange"].hex() == exchange, "7.2", "a header of another exchange")
    return [message["read"] for message in messages]


def grouped(messages):
    """Messages by (attempt, direction), in the order of the file."""
    groups = {}
    for message in messages:
        groups.setdefault((message["read"]["attempt"], message["read"]["direction"]), []).append(message)
    return groups


def check_exchange(holder, messages):
    """7.3"""
    routes = [message["read"]["route"] for message in messages]
    for route in routes:
        need({**route, "provider_server": ""} == {**routes[0], "provider_server": ""}, "7.3", "another route")
    need(any((holder["member"], holder["server"]) == (member_of(route[side]), route[side + "_server"])
             for route in routes for side in ("consumer", "provider")), "7.3", "the holder is no party")
    order = [(message["read"]["attempt"], message["read"]["direction"]) for message in messages]
    need(order == sorted(order), "7.3", "the messages stand in another order")
    for attempt in dict(order):
        check_directions([(each["header"], each["read"]) for each in messages if each["read"]["attempt"] == attempt])


def check_configuration(anchor, files, messages, timestamps, signer=None):
    """7.4; of a container with the key that signed it."""
    headers, keys = [message["read"] for message in messages], {signer} if signer else set()
    for message in messages:
        try:
            keys.add(decode("Seal", message["seal"])["key"])
        except Invalid:
            pass  # 7.5 refuses it
    for stamp in timestamps:
        try:
            keys.add(token_signer(read_token(read_stamp(stamp)["token"]))["key"])
        except Invalid:
            pass  # 7.18 or 7.19 refuses it
    route = headers[0]["route"]
    governed, version, members, revoked = excerpt(
        anchor, files, [member_of(route["consumer"]), member_of(route["provider"])],
        {key for key in keys if len(key) == 32}, max(header["time"] for header in headers))
    need(governed["instance"] == route["instance"], "7.4", "the configuration of another instance")
    for configuration in (header["configuration"] for header in headers):
        need(configuration["version"] != version or configuration["digest"] == sha256(files["timestamp.json"]), "7.4",
             "a header names another configuration of this version")
    return governed, members, revoked


def check_heads(seals):
    """7.7"""
    roots = {}
    for seal in seals:
        root = roots.setdefault((seal["tree"], seal["size"]), seal["root"])
        need(root == seal["root"], "7.7", "two roots of one tree at one size: the log was rewritten")


def read_stamp(data):
    stamp = decode("Stamp", data, "7.18")
    read_head(stamp["head"], "7.18")
    return stamp


def check_places(messages, timestamps):
    """7.18: the stamps, and which of them each message is under."""
    stamps, under = [read_stamp(data) for data in timestamps], []
    for message in messages:
        if "place" not in message:
            under.append(None)
            continue
        place = decode("Place", message["place"], "7.18")
        need(place["timestamp"] < len(stamps), "7.18", "a timestamp that is not in the file")
        need(len(place["nonce"]) == 16 and place["records"] <= 65536, "7.18", "a length")
        need(all(len(hash_) == 32 for hash_ in place["record_path"] + place["commit_path"]), "7.18", "a hash of a path")
        need(len(place["record_path"]) <= 16 and len(place["commit_path"]) <= 64, "7.18", "a path is too long")
        seal = sha256(b"causeway/v1/seal\n", message["seal"]) if place["received"] else b""
        record = leaf(bytes([3 if place["received"] else 2]) + place["nonce"] + seal + message["header"])
        climbed = climb(record, place["record"], place["records"], place["record_path"], "7.18")
        _, size, root = read_head(stamps[place["timestamp"]]["head"])
        commit = leaf(commit_of(place["records"], climbed))
        need(climb(commit, place["commit"], size, place["commit_path"], "7.18") == root, "7.18", "not under that head")
        under.append(place["timestamp"])
    need(set(range(len(stamps))) <= set(under), "7.18", "a timestamp over no message of the file")
    return stamps, under


# ---- 7.20 and 7.21 an archive of evidence

SCRIPT = "2fc96347cb424199b79970c5c0983dadd8ea40099d82fd3b93850e3d0e90934f"  # SHA-256 of verify.sh
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"


def write_archive(files):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in sorted(files, key=lambda name: (name != "mimetype", name)):
            listed = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            listed.create_system, listed.external_attr = 3, 0o100644 << 16
            archive.writestr(listed, files[name])
    return written.getvalue()


def read_archive(data):
    """7.20: the files by name. There is one way to write them: whatever a reader could take otherwise differs from it."""
    need(len(data) <= 1 << 30, "7.20", "the archive is too long")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            listed = archive.infolist()
            need(len(listed) <= 65535 and sum(each.file_size for each in listed) <= len(data), "7.20", "too much in it")
            need(all(each.compress_type == zipfile.ZIP_STORED and each.flag_bits == 0 for each in listed), "7.20", "not stored")
            names = [each.filename for each in listed]
            need(all(len(name) <= 512 and re.fullmatch(NAME, name) for name in names), "7.20", "a name of a file")
            need(len(set(names)) == len(names), "7.20", "a name stands twice")
            files = {each.filename: archive.read(each) for each in listed}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, OSError, OverflowError):
        raise Invalid("7.20", "not a zip") from None
    need(write_archive(files) == data, "7.20", "a zip of another form")
    need("evidence.json" in files, "7.20", "evidence.json is not there")
    return files


def pem(certificate_):
    text = base64.b64encode(certificate_).decode()
    lines = "".join(text[at:at + 64] + "\n" for at in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n".encode()


def in_path(read):
    with_ = {name: "".join(f"with {hash_.hex()}\n" for hash_ in read[name]) for name in ("record_path", "commit_path")}
    return (f"record {read['record']} of {read['records']}\n{with_['record_path']}"
            f"commit {read['commit']}\n{with_['commit_path']}")


def check_archive(files, configuration, messages, timestamps, approved, members):
    """7.21: each file is the one that the evidence makes; evidence.json, which was judged, and the script as they are."""
    need(len(messages) <= 5000, "7.21", "too many messages for an archive")
    need(all(len(name) <= 512 and re.fullmatch(NAME, name) for name in configuration), "7.21", "a name in configuration")
    made = {f"configuration/{name}": data for name, data in configuration.items()}
    made["evidence.json"], script = files["evidence.json"], files.get("verify.sh", b"")
    need(sha256(script).hex() == SCRIPT, "7.21", "another verify.sh")
    made["verify.sh"] = script
    for number, message in enumerate(messages):
        at, seal, route = f"messages/{number:05}/", decode("Seal", message["seal"]), message["read"]["route"]
        made |= {f"{at}{name}.bin": message[name] for name in ("header", "seal", "genesis", "payload", "place") if name in message}
        made |= {at + "nonce.bin": seal["nonce"], at + "head.txt": seal["head"], at + "signature.der": seal["signature"],
                 at + "path.txt": f"key {seal['key'].hex()}\n{in_path(seal)}".encode()}
        member = member_of(route["consumer" if message["read"]["direction"] == REQUEST else "provider"])
        of_key = members[member][1][seal["key"]][1].public_bytes(serialization.Encoding.DER)
        made[f"keys/{seal['key'].hex()}.pem"] = pem(of_key)
        if "place" in message:
            place = decode("Place", message["place"])
            kind = "received" if place["received"] else "sent"
            made[at + "place-nonce.bin"] = place["nonce"]
            made[at + "place.txt"] = f"timestamp {place['timestamp']}\nkind {kind}\n{in_path(place)}".encode()
    for number, data in enumerate(timestamps):
        at, stamp = f"timestamps/{number:05}/", read_stamp(data)
        made |= {at + "stamp.bin": data, at + "head.txt": stamp["head"], at + "token.der": stamp["token"]}
    if timestamps:
        made["timestamping.pem"] = b"".join(pem(unbase64(each["certificate"], "8.3")) for each in approved)
    made["manifest.txt"] = "".join(f"{sha256(made[name]).hex()}  {name}\n" for name in sorted(made)).encode()
    other = sorted(name for name in made.keys() | files.keys() if made.get(name) != files.get(name))
    need(not other, "7.21", f"{(other or [''])[0]} is not what evidence.json makes it")


# ---- 7.22 and 7.23 a container: an archive's files, a manifest as ETSI has it, and the holder's CAdES signature over that

ASIC_E, ASIC_MANIFEST, SIGNATURE = b"application/vnd.etsi.asic-e+zip", "META-INF/ASiCManifest001.xml", "META-INF/signature001.p7s"
DATA, SIGNED_DATA, SHA_256, ECDSA = (bytes.fromhex(oid) for oid in (
    "2a864886f70d010701", "2a864886f70d010702", "608648016503040201", "2a8648ce3d040302"))
CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME, SIGNING_CERTIFICATE = (bytes.fromhex(oid) for oid in (
    "2a864886f70d010903", "2a864886f70d010904", "2a864886f70d010905", "2a864886f70d010910022f"))


def asic_manifest(files):
    lines = ['<?xml version="1.0" encoding="UTF-8"?>',
             '<asic:ASiCManifest xmlns:asic="http://uri.etsi.org/02918/v1.2.1#" xmlns:ds="http://www.w3.org/2000/09/xmldsig#">',
             f'<asic:SigReference URI="{SIGNATURE}" MimeType="application/pkcs7-signature"/>']
    for name in sorted(files):
        root = ' MimeType="application/json" Rootfile="true"' if name == "evidence.json" else ""
        lines.append(f'<asic:DataObjectReference URI="{name}"{root}>'
                     '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>'
                     f'<ds:DigestValue>{base64.b64encode(sha256(files[name])).decode()}</ds:DigestValue>'
                     '</asic:DataObjectReference>')
    return "\n".join([*lines, "</asic:ASiCManifest>", ""]).encode()


def signing_certificate(certificate_):
    return tlv(SEQUENCE, tlv(SEQUENCE, tlv(SEQUENCE, tlv(OCTETS, sha256(certificate_)))))


def read_signature(cms):
    """What the signature says of itself: its certificate, the bytes of its time, and the signature proper."""
    step = "7.23"
    need(cms is not None and len(cms) <= 9216, step, "no signature, or too long")
    _, inner = der_parts(*der_parts(cms, SEQUENCE, step=step), OID, TAGGED, step=step)
    _, _, _, certificates, signer = der_parts(
        *der_parts(inner, SEQUENCE, step=step), INTEGER, SET, SEQUENCE, TAGGED, SET, step=step)
    _, _, _, attributes, _, signature = der_parts(
        *der_parts(signer, SEQUENCE, step=step), INTEGER, SEQUENCE, SEQUENCE, TAGGED, SEQUENCE, OCTETS, step=step)
    said = dict(der_parts(each, OID, SET, step=step) for _, each, _ in der(attributes, step))
    named_ = [each for _, _, each in der(certificates, step) if signing_certificate(each) == said.get(SIGNING_CERTIFICATE)]
    need(named_ and SIGNING_TIME in said and len(signature) <= 72, step, "no certificate, no time, or no signature")
    return named_[0], said[SIGNING_TIME], signature


def signer_of(files):
    """The name of the key with which a container says that it was signed."""
    try:
        certificate_, _, _ = read_signature(files.get(SIGNATURE))
        return sha256(p256(lambda data: x509.load_der_x509_certificate(data).public_key(), certificate_, "7.23")[1])
    except Invalid:
        return None  # 7.23 refuses it


def signing_moment(data):
    """Milliseconds since 1970, of a time in the one form of RFC 5652 11.3."""
    (tag, text, _), *more = der(data, "7.23") or [(0, b"", b"")]
    forms = {0x17: (rb"[0-9]{12}Z", "%y%m%d%H%M%SZ"), TIME: (rb"[0-9]{14}Z", "%Y%m%d%H%M%SZ")}
    need(not more and tag in forms and re.fullmatch(forms[tag][0], text), "7.23", "not a time")
    try:
        read = datetime.strptime(text.decode(), forms[tag][1])
    except ValueError:
        raise Invalid("7.23", "not a time") from None
    need(1970 <= read.year and (tag == TIME) == (read.year >= 2050), "7.23", "not a time")
    return 1000 * ((read - datetime(1970, 1, 1)) // timedelta(seconds=1))


def is_issuer(authority, certificate_):
    try:
        read, other = read_certificate(authority), x509.load_der_x509_certificate(certificate_)
        constraints, usage = (read["extensions"].get(kind) for kind in (x509.BasicConstraints, x509.KeyUsage))
        key, _ = p256(lambda data: x509.load_der_x509_certificate(data).public_key(), authority, "7.23")
        known = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
        may = (constraints and constraints.critical and constraints.value.ca and usage and usage.value.key_cert_sign
               and all(isinstance(each.value, known) for each in read["extensions"].values() if each.critical))
        return may and signed(key, other.signature, other.tbs_certificate_bytes)
    except (Invalid, ValueError):
        return False


def check_wrapped(files, archived):
    """7.22"""
    need(files.get("mimetype") == ASIC_E, "7.22", "another mimetype")
    need(files.get(ASIC_MANIFEST) == asic_manifest(archived), "7.22", "the manifest is not that of the other files")


def check_signature(files, holder, authorities, members, revoked):
    """7.23: the key that signed, and when by its own word. All but the signature proper is made again and compared."""
    certificate_, time, signature = read_signature(files.get(SIGNATURE))
    at, name = signing_moment(time), signer_of(files)
    need(name, "7.23", "its certificate has no P-256 key")
    try:
        key = signing_key(members, revoked, holder["member"], holder["server"], name, at, b"")
    except (Invalid, KeyError):
        raise Invalid("7.23", "its key is none of the holder's that was good then") from None
    listed = members[holder["member"]][1][name][1].public_bytes(serialization.Encoding.DER)
    issuer = [each for each in authorities if is_issuer(each, listed)][:1]
    certificates = sorted([listed] + [each for each in issuer if each != listed])
    read, sha_256 = read_certificate(listed, "7.23"), tlv(SEQUENCE, tlv(OID, SHA_256))
    attributes = b"".join(sorted(tlv(SEQUENCE, tlv(OID, kind) + tlv(SET, value)) for kind, value in (
        (CONTENT_TYPE, tlv(OID, DATA)), (SIGNING_TIME, time), (MESSAGE_DIGEST, tlv(OCTETS, sha256(files[ASIC_MANIFEST]))),
        (SIGNING_CERTIFICATE, signing_certificate(listed)))))
    signer = tlv(SEQUENCE, tlv(INTEGER, b"\1") + tlv(SEQUENCE, read["issuer"] + read["serial"]) + sha_256 + tlv(TAGGED, attributes)
                 + tlv(SEQUENCE, tlv(OID, ECDSA)) + tlv(OCTETS, signature))
    said = tlv(SEQUENCE, tlv(INTEGER, b"\1") + tlv(SET, sha_256) + tlv(SEQUENCE, tlv(OID, DATA))
               + tlv(TAGGED, b"".join(certificates)) + tlv(SET, signer))
    need(files[SIGNATURE] == tlv(SEQUENCE, tlv(OID, SIGNED_DATA) + tlv(TAGGED, said)), "7.23", "of another form")
    need(signed(key, signature, tlv(SET, attributes)), "7.23", "the signature does not hold")
    return name, at


# ---- 16.3 timestamps: a token of RFC 3161 is CMS signed data in DER

INTEGER, OCTETS, OID, TIME, SEQUENCE, SET, TAGGED = 0x02, 0x04, 0x06, 0x18, 0x30, 0x31, 0xA0
CURVES = {("secp256r1", 256), ("secp256r1", 384), ("secp384r1", 256), ("secp384r1", 384), ("secp521r1", 512)}
HASHES = {f"2.16.840.1.101.3.4.2.{n}": how for n, how in ((1, hashes.SHA256), (2, hashes.SHA384), (3, hashes.SHA512))}
RSA_KEY, RSA_WITH = "1.2.840.113549.1.1.1", {256: "1.2.840.113549.1.1.11", 384: "1.2.840.113549.1.1.12",
                                             512: "1.2.840.113549.1.1.13"}
ECDSA_WITH = {256: "1.2.840.10045.4.3.2", 384: "1.2.840.10045.4.3.3", 512: "1.2.840.10045.4.3.4"}


def der(data, step="16.3.1"):
    """The values that stand in these bytes, one after another: (tag, contents, all of it)."""
    found, at = [], 0
    while at < len(data):
        begin, head = at, data[at:at + 2]
        need(len(head) == 2 and head[0] & 31 != 31 and head[1] != 0x80, step, "not DER")
        length, at = head[1], at + 2
        if length > 0x80:
            count = length - 0x80
            long, at = data[at:at + count], at + count
            need(len(long) == count <= 4 and long[0], step, "not DER: a length")
            length = int.from_bytes(long, "big")
            need(length >= 0x80, step, "not DER: a length")
        need(length <= len(data) - at, step, "not DER: cut off")
        at += length
        found.append((head[0], data[at - length:at], data[begin:at]))
    return found


def der_parts(data, *tags, whole=True, step="16.3.1"):
    """The contents of the first values, which have these tags, and the values after them: none, if they are the whole."""
    values = der(data, step)
    need(tuple(tag for tag, _, _ in values[:len(tags)]) == tags, step, "not of the form")
    need(not whole or len(values) == len(tags), step, "more than its form has")
    return [contents for _, contents, _ in values[:len(tags)]] + ([] if whole else [values[len(tags):]])


def tlv(tag, contents):
    length = len(contents)
    long = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([length]) if length < 0x80 else bytes([0x80 + len(long)]) + long) + contents


def dotted(contents, step="16.3.1"):
    need(contents and contents[-1] < 0x80, step, "not an object identifier")
    numbers, value, first = [], 0, True
    for byte in contents:
        need(not first or byte != 0x80, step, "not an object identifier")
        value, first = value << 7 | byte & 0x7F, byte < 0x80
        if first:
            numbers, value = numbers + [value], 0
    top = min(numbers[0] // 40, 2)
    return ".".join(map(str, [top, numbers[0] - 40 * top] + numbers[1:]))


def algorithm(contents):
    return dotted(der_parts(contents, OID, whole=False)[0])


def read_token(token):
    """16.3.1"""
    need(len(token) <= 16384, "16.3.1", "the token is too long")
    kind, inner = der_parts(*der_parts(token, SEQUENCE), OID, TAGGED)
    need(dotted(kind) == "1.2.840.113549.1.7.2", "16.3.1", "not signed data")
    _, _, content, more = der_parts(*der_parts(inner, SEQUENCE), INTEGER, SET, SEQUENCE, whole=False)
    kind, boxed = der_parts(content, OID, TAGGED)
    need(dotted(kind) == "1.2.840.113549.1.9.16.1.4", "16.3.1", "its content is no time")
    said, = der_parts(boxed, OCTETS)
    certificates = [each for tag, value, _ in more if tag == TAGGED for _, _, each in der(value)]
    need(len(certificates) <= 6, "16.3.1", "too many certificates")
    signer, = der_parts(b"".join(value for tag, value, _ in more if tag == SET), SEQUENCE)
    values = der(signer)
    tags = [tag for tag, _, _ in values]
    need(len(tags) >= 6 and tags[0] == INTEGER and tags[2:6] == [SEQUENCE, TAGGED, SEQUENCE, OCTETS], "16.3.1", "signer")
    version, policy, imprint, _, time, more = der_parts(
        *der_parts(said, SEQUENCE), INTEGER, OID, SEQUENCE, INTEGER, TIME, whole=False)
    how, hashed = der_parts(imprint, SEQUENCE, OCTETS)
    need(version == b"\1" and all(tag & 31 != 1 or tag < 0x80 for tag, _, _ in more), "16.3.1", "version or extensions")
    parts = re.fullmatch(rb"([0-9]{14})(\.[0-9]{1,9})?Z", time)
    need(parts and not parts[1].endswith(b"60"), "16.3.1", "not a time")
    try:
        whole = datetime.strptime(parts[1].decode(), "%Y%m%d%H%M%S") - datetime(1970, 1, 1)
    except ValueError:
        raise Invalid("16.3.1", "not a time") from None
    millis = 1000 * (whole // timedelta(seconds=1)) + int(1000 * Fraction("0" + (parts[2] or b"").decode()))
    return {"content": said, "policy": dotted(policy), "imprint": (algorithm(how), hashed), "time": millis,
            "certificates": certificates, "names": values[1], "digest": algorithm(values[2][1]),
            "attributes": values[3][1], "algorithm": algorithm(values[4][1]), "signature": values[5][1]}


def attribute(token, wanted):
    """The one value of a signed attribute, None where it is not there."""
    found = []
    for tag, contents, _ in der(token["attributes"]):
        need(tag == SEQUENCE, "16.3.1", "not an attribute")
        kind, values = der_parts(contents, OID, SET)
        found += [der(values)] if dotted(kind) == wanted else []
    need(len(found) <= 1 and all(len(values) == 1 for values in found), "16.3.1", "a signed attribute is there twice")
    return found[0][0][2] if found else None


def read_certificate(data, step="16.3.4"):
    """A certificate with what is compared byte for byte, and its extensions by kind."""
    try:
        read = x509.load_der_x509_certificate(data)
        extensions = {type(each.value): each for each in read.extensions}
        known = all(isinstance(each.value, (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage))
                    for each in read.extensions if each.critical)
        need(read.version is x509.Version.v3, step, "not version 3")
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm):
        raise Invalid(step, "not one certificate in DER") from None
    values = [whole for _, _, whole in der(*der_parts(read.tbs_certificate_bytes, SEQUENCE, step=step), step)]
    begins, ends = (1000 * int(time.timestamp()) for time in (read.not_valid_before_utc, read.not_valid_after_utc))
    return {"read": read, "der": data, "serial": values[1], "issuer": values[3], "subject": values[5],
            "key": sha256(values[6]), "extensions": extensions, "known": known, "valid": (begins, ends)}


def extension(certificate_, kind):
    found = certificate_["extensions"].get(kind)
    return found and found.value


def token_signer(token):
    """16.3.4: the certificate that the signed attributes name by its hash and the signer by its name."""
    value, way, sha1 = attribute(token, "1.2.840.113549.1.9.16.2.47"), hashlib.sha256, False
    if value is None:
        value, way, sha1 = attribute(token, "1.2.840.113549.1.9.16.2.12"), hashlib.sha1, True
    need(value is not None, "16.3.4", "the token does not name its certificate")
    named_, _ = der_parts(*der_parts(value, SEQUENCE), SEQUENCE, whole=False)
    first, _ = der_parts(named_, SEQUENCE, whole=False)
    values = der(first)
    given = not sha1 and values and values[0][0] == SEQUENCE
    need(values[given:] and values[given][0] == OCTETS, "16.3.1", "not the hash of a certificate")
    need(not given or algorithm(values[0][1]) == "2.16.840.1.101.3.4.2.1", "16.3.4", "named by another hash than SHA-256")
    found = [each for each in token["certificates"] if way(each).digest() == values[given][1]]
    need(found, "16.3.4", "the certificate is not in the token")
    signer, (tag, contents, _) = read_certificate(found[0]), token["names"]
    key_id = extension(signer, x509.SubjectKeyIdentifier)
    need((tag, contents) == (SEQUENCE, signer["issuer"] + signer["serial"]) or
         key_id and (tag, contents) == (0x80, key_id.digest), "16.3.4", "the signer names another certificate")
    return signer


def issued(issuer, other, at):
    constraints, usage = extension(issuer, x509.BasicConstraints), extension(issuer, x509.KeyUsage)
    if not (constraints and constraints.ca and (not usage or usage.key_cert_sign) and issuer["known"]
            and issuer["valid"][0] <= at <= issuer["valid"][1] and issuer["subject"] == other["issuer"]):
        return False
    try:
        other["read"].verify_directly_issued_by(issuer["read"])
        return True
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False


def approved_authority(signer, certificates, approved, at):
    """16.3.5"""
    above = []
    for each in certificates:
        try:
            above.append(read_certificate(each))
        except Invalid:
            pass
    for each in approved:
        if certificate(each["certificate"]).public_bytes(serialization.Encoding.DER) == signer["der"]:
            return each
    chain = signer
    for _ in range(6):
        for each in approved:
            try:
                if issued(read_certificate(unbase64(each["certificate"], "8.3")), chain, at):
                    return each
            except Invalid:
                pass
        chain = next((each for each in above if each["der"] != chain["der"] and issued(each, chain, at)), None)
        if chain is None:
            break
    raise Invalid("16.3.5", "of no approved authority")


def check_token(token, data, approved, revoked):
    """16.3: whose it is, and the time that it names."""
    token = read_token(token)
    need(token["imprint"] == ("2.16.840.1.101.3.4.2.1", sha256(data)), "16.3.2", "over other bytes")
    signer, at = token_signer(token), token["time"]
    usages, usage = extension(signer, x509.ExtendedKeyUsage), extension(signer, x509.KeyUsage)
    constraints = extension(signer, x509.BasicConstraints)
    need(usages and list(usages) == [ExtendedKeyUsageOID.TIME_STAMPING] and
         signer["extensions"][x509.ExtendedKeyUsage].critical, "16.3.4", "not for timestamps and nothing else")
    need(not usage or usage.digital_signature or usage.content_commitment, "16.3.4", "its key usage is not to sign")
    need(not (constraints and constraints.ca), "16.3.4", "an authority's certificate")
    need(signer["known"], "16.3.4", "a critical extension of an unknown kind")
    need(signer["valid"][0] <= at <= signer["valid"][1], "16.3.4", "not valid at that time")
    authority = approved_authority(signer, token["certificates"], approved, at)
    need(authority.get("policy", token["policy"]) == token["policy"], "16.3.3", "under another policy")
    kind, digest = attribute(token, "1.2.840.113549.1.9.3"), attribute(token, "1.2.840.113549.1.9.4")
    need(kind and der(kind)[0][0] == OID and dotted(der(kind)[0][1]) == "1.2.840.113549.1.9.16.1.4", "16.3.6", "the type")
    need(token["digest"] in HASHES and digest, "16.3.6", "the digest")
    how = HASHES[token["digest"]]()
    hashed = hashes.Hash(how)
    hashed.update(token["content"])
    need(digest == tlv(OCTETS, hashed.finalize()), "16.3.6", "over other content")
    bits, attributes = how.digest_size * 8, tlv(SET, token["attributes"])
    try:
        key = signer["read"].public_key()
        if isinstance(key, rsa.RSAPublicKey):
            need(2048 <= key.key_size <= 8192 and token["algorithm"] in (RSA_KEY, RSA_WITH[bits]), "16.3.6", "algorithm")
            key.verify(token["signature"], attributes, padding.PKCS1v15(), how)
        else:
            known = isinstance(key, ec.EllipticCurvePublicKey) and (key.curve.name, bits) in CURVES
            need(known and token["algorithm"] == ECDSA_WITH[bits], "16.3.6", "algorithm")
            key.verify(token["signature"], attributes, ec.ECDSA(how))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise Invalid("16.3.6", "the signature does not hold") from None
    need(signer["key"].hex() not in revoked, "16.3.7", "the authority's key is revoked")
    return {"authority": authority["name"], "key": signer["key"], "time": at}


def in_words(millis):
    return (datetime(1970, 1, 1) + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds") + "Z"


def said_of_time(messages, under, times):
    """What the timestamps prove, and what they do not."""
    count, stamped = len(messages), len(messages) - under.count(None)
    proven = [f"{under.count(n)} of {count} messages existed at or before {in_words(each['time'])}, by a timestamp of "
              f"{each['authority']}, key {each['key'].hex()}" for n, each in enumerate(times)]
    later = sum(at is not None and message["read"]["time"] > times[at]["time"] + 60000
                for message, at in zip(messages, under))
    not_proven = [f"the time of {count - stamped} messages: no timestamp over them is in this file"] * (stamped < count)
    not_proven += [f"how long before their timestamps {stamped} messages were made"] * (stamped > 0)
    not_proven += [f"the times of {later} messages: they are later than the timestamps over them"] * (later > 0)
    return proven, not_proven


def named(key):
    return f"attempt {key[0]}, {'request' if key[1] == REQUEST else 'answer'}"


def sentences(groups):
    """What a file is proof of, every step holding, and what it is not."""
    proven, not_proven = [], []
    for key, group in groups.items():
        first, route = group[0]["read"], group[0]["read"]["route"]
        side, whom, what = "consumer", "provider", f"asked, for {json.dumps((first['opening'] or {}).get('purpose'))},"
        if key[1] == ANSWER:
            side, whom, what = "provider", "consumer", "answered"
        call = route["grpc_path"] or "{verb} {target}".format(**route["http"])
        when = in_words(first["time"])
        proven.append(f"{member_of(route[side])} {what} {route[whom]}, {call}: {named(key)}, messages: {len(group)}, "
                      f"from {when} by the clock of {route[side + '_server']}")
        erased = [each["read"]["position"] for each in group if committed(each["read"]) and "payload" not in each]
        cut = [each["read"] for each in group if each["read"]["removed"]]
        proven += [f"the provider's server may have removed fields from message {read['position']} of {named(key)}: it is not "
                   f"all that the service answered, commitment {read['removed'].hex()}" for read in cut]
        not_proven += [f"what was removed from {named(key)}, and whether anything was"] if cut else []
        not_proven += [f"what was said in messages {erased} of {named(key)}: not kept"] if erased else []
        not_proven += [f"that {named(key)} is whole: its end is not here"] if not group[-1]["read"]["end"] else []
    not_proven += [f"that the provider answered attempt {attempt}" for attempt, way in groups
                   if way == REQUEST and (attempt, ANSWER) not in groups]
    return proven, not_proven + [
        "that anything was delivered",
        "that the agency's own system asked: its server holds the key", "that nothing else was written and never sent",
        "that no key was revoked after the version of the configuration shown"]


def verify(evidence, anchor, findings):
    """Appends what is found, and returns what is proven and what is not; Invalid if the file proves nothing."""
    def judge(step, subject, action, *given):
        try:
            try:
                result = action(*given)
            except RecursionError:
                raise Invalid(step, "nested too deeply") from None
        except Invalid as invalid:
            findings.append({"step": invalid.step, "subject": subject, "verdict": f"refused: {invalid.why}"})
            raise
        findings.append({"step": step, "subject": subject, "verdict": "holds"})
        return result

    archive = judge("7.20", "the archive", read_archive, evidence) if evidence.startswith(b"PK\3\4") else None
    evidence = archive["evidence.json"] if archive else evidence
    container = archive if archive and "mimetype" in archive else None
    if container:
        archive = {name: data for name, data in container.items() if name not in ("mimetype", ASIC_MANIFEST, SIGNATURE)}
    exchange, holder, files, messages, timestamps = judge("7.1", "the file", read_evidence, evidence)
    judge("7.2", "headers", read_headers, exchange, messages)
    judge("7.3", "directions", check_exchange, holder, messages)
    governed, members, revoked = judge(
        "7.4", "global configuration", check_configuration, anchor, files, messages, timestamps,
        signer_of(container) if container else None)
    approved = governed.get("timestamping", [])

    def key_of(member, server, key, header, head):
        return signing_key(members, revoked, member, server, key, header["time"], head)

    groups, seals = grouped(messages), []
    for key, group in groups.items():
        for message in group:
            seals.append(judge("7.5", f"seal of {named(key)}, message {message['read']['position']}", check_seal,
                               message["header"], message["seal"], message["genesis"], key_of))
    for key, group in groups.items():
        payloads = [(message["read"], message.get("payload")) for message in group]
        judge("7.6", f"payloads of {named(key)}", check_payloads, payloads)
    judge("7.7", "heads", check_heads, seals)
    stamps, under = judge("7.18", "places", check_places, messages, timestamps)
    times = [judge("7.19", f"timestamp {n}", check_token, stamp["token"], stamp["head"], approved, revoked)
             for n, stamp in enumerate(stamps)]
    if archive:
        judge("7.21", "the archive's files", check_archive, archive, files, messages, timestamps, approved, members)
    told = [told + more for told, more in zip(sentences(groups), said_of_time(messages, under, times))]
    if container:
        judge("7.22", "the container's manifest", check_wrapped, container, archive)
        authorities = [unbase64(each, "8.3") for each in governed["authorities"]]
        key, at = judge("7.23", "the container's signature", check_signature, container, holder, authorities, members, revoked)
        told[0].append(f"{holder['member']} at {holder['server']} gave out this container as it is: signed with the key {key.hex()}")
        told[1].append(f"that the container was signed at {in_words(at)}: that is the clock of the server that signed it")
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("verify", help="verify an evidence file, or an archive or a container of one")
    command.add_argument("evidence", type=Path)
    command.add_argument("--anchor", type=Path, required=True, help="the root document of the global configuration")
    command.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        evidence, anchor = given.evidence.read_bytes(), given.anchor.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        parser.error(str(error))
    findings, proven, not_proven, valid = [], [], ["anything: the file was refused"], False
    try:
        proven, not_proven = verify(evidence, anchor, findings)
        valid = True
    except Invalid:
        pass
    if given.json:
        print(json.dumps({"valid": valid, "findings": findings, "proven": proven, "not_proven": not_proven}, indent=2))
    else:
        for finding in findings:
            print("{step:6} {subject}: {verdict}".format(**finding))
        print("valid" if valid else "INVALID")
        print("\n".join([f"proven: {each}" for each in proven] + [f"not proven: {each}" for each in not_proven]))
    return 0 if valid else 5


if __name__ == "__main__":
    sys.exit(main())
