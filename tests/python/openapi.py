"""Validators that are none of ours: openapi-spec-validator judges OpenAPI documents, openapi-schema-validator a call and its
answer by the schemas of one. Says as JSON what it saw."""

import copy
import json
import sys

import requests
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012


def wrong(document):
    return [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]


def is_wrong(document):
    """By its first error: behind one the validator itself may stumble."""
    return next(OpenAPIV31SpecValidator(document).iter_errors(), None) is not None


def spoiled(document):
    """Each spoiled in one place: a validator that takes one of them says nothing."""
    for spoil in (lambda it: it.pop("info"), lambda it: it.update(paths={"no-slash": {}}),
                  lambda it: it["components"]["schemas"].update(wrong={"type": "text"}),
                  lambda it: next(iter(it["paths"].values())).update(post={"responses": 7})):
        other = copy.deepcopy(document)
        spoil(other)
        yield other


def fits(document, value, schema):
    registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(document))
    schema = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    return OAS31Validator(schema, registry=registry).is_valid(value)


def main(files, door, provider, fields):
    ask = requests.Session()
    ask.trust_env = False
    documents = [json.load(open(file)) for file in files]
    listed = ask.get(f"{door}/openapi", timeout=60).json()["services"]
    ours = [ask.get(door + each["openapi"], timeout=60).json() for each in listed]
    documents += ours
    path, said = "/echo.v1.Echo/Unary", {"text": "Xin ch\u00e0o", "number": "7"}
    operation = ours[0]["paths"][path]["post"]
    asks = operation["requestBody"]["content"]["application/json"]["schema"]
    answers = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answer = ask.post(ours[0]["servers"][0]["url"] + path, json=said, headers=dict(fields), timeout=60)
    refused = ask.post(ours[0]["servers"][0]["url"] + path, json={"txt": 1}, headers=dict(fields), timeout=60)
    problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
    print(json.dumps({
        "documents": len(documents), "wrong": [error for document in documents for error in wrong(document)],
        "spoiled": [is_wrong(other) for other in spoiled(documents[-1])],
        "listed": [[each["service"], each["provider"] == provider] for each in listed], "answer": answer.json(),
        "fits": [fits(ours[0], said, asks), fits(ours[0], answer.json(), answers), fits(ours[0], refused.json(), problem)],
        "fits not": [fits(ours[0], {"text": 7}, asks), fits(ours[0], {"status": 400}, problem)],
    }))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
