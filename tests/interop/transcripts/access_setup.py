"""Creates the topics, groups, users and policies of access.json at Apache's broker, to record what Apache's proxy answers.

  access_setup.py NAME_SERVER ACCESS_KEY SECRET_KEY
"""
import json
import re
import sys
from pathlib import Path

import remoting

BROKERS, CREATE_TOPIC, CREATE_GROUP, CREATE_USER, CREATE_ACL = 106, 17, 200, 3001, 3006


def requests(setup):
    """The requests, each a code, fields and a body."""
    for topic in setup["topics"]:
        yield CREATE_TOPIC, {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": "1", "writeQueueNums": "1", "perm": "6",
                             "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
                             "attributes": "+message.type=NORMAL"}, None
    for group in setup["groups"]:
        yield CREATE_GROUP, {}, {"groupName": group, "retryMaxTimes": 16}
    for user in setup["users"]:
        yield CREATE_USER, {"username": user["name"]}, {
            "username": user["name"], "password": user["secret"], "userType": "Super" if user.get("super") else "Normal",
            "userStatus": "disable" if user.get("disabled") else "enable"}
        entries = [entry(*policy) for policy in user.get("policies", [])]
        if entries:
            subject = f"User:{user['name']}"
            yield CREATE_ACL, {"subject": subject}, {
                "subject": subject, "policies": [{"policyType": "Custom", "entries": entries}]}


def entry(resource, actions, network="", effect="allow"):
    return {"resource": resource, "actions": [action.capitalize() for action in actions.split(",")],
            "sourceIps": [network] if network else [], "decision": effect.capitalize()}


def main():
    name_server, access_key, secret = sys.argv[1:]
    _, brokers = remoting.call(name_server, BROKERS)
    # Apache's name server does not quote the broker's number.
    broker = re.search(r'"?0"?:"([^"]+)"', brokers.decode()).group(1)
    setup = json.loads((Path(__file__).resolve().parent / "access.json").read_text())
    for code, fields, body in requests(setup):
        body = json.dumps(body).encode() if body is not None else b""
        answer, _ = remoting.call(broker, code, remoting.signed(fields, body, access_key, secret), body)
        if answer["code"] != 0:
            sys.exit(f"{code} {fields} is refused: {answer}")


if __name__ == "__main__":
    main()
