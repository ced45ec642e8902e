"""Requests of the remoting protocol, signed as Apache's classic clients do."""
import base64
import hashlib
import hmac
import json
import socket
import struct

VERSION = 513  # 5.5.0
ANSWER_SECONDS = 30


def signed(fields, body, user, secret):
    """The fields with the signature of a user: it covers the values of all fields, in the order of their names, and the body."""
    fields = {**fields, "AccessKey": user}
    content = "".join(fields[key] for key in sorted(fields)).encode() + body
    mac = hmac.new(secret.encode(), content, hashlib.sha1).digest()
    return {**fields, "Signature": base64.b64encode(mac).decode()}


def call(address, code, fields=None, body=b""):
    """Sends a request on a connection of its own. Returns the header of the answer, and its body."""
    header = {"code": code, "language": "JAVA", "version": VERSION, "opaque": 1, "flag": 0,
              "serializeTypeCurrentRPC": "JSON"}
    if fields is not None:
        header["extFields"] = fields
    header = json.dumps(header).encode()
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)
        length, header_length = struct.unpack(">II", exactly(connection, 8))
        header_length &= 0xFFFFFF
        answer = exactly(connection, length - 4)
    return json.loads(answer[:header_length]), answer[header_length:]


def exactly(connection, count):
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError("the connection was closed")
        parts += part
    return parts
