"""Plays one case: fills placeholders, performs the steps, normalises what came back.

A case is plain data (README.md explains it); everything needed to replay it is in cases.jsonl.
"""
import base64
import datetime
import gzip
import hashlib
import hmac
import json
import queue
import re
import threading
import time
import uuid
import zlib

import grpc
from google.protobuf import json_format

import remoting
from apache.rocketmq.v2 import service_pb2 as pb

SERVICE = "/apache.rocketmq.v2.MessagingService/"
METHODS = {m.name: m for m in pb.DESCRIPTOR.services_by_name["MessagingService"].methods}
TYPES = {name: (getattr(pb, m.input_type.name), getattr(pb, m.output_type.name)) for name, m in METHODS.items()}

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
CLIENT = {"x-mq-client-id": "{client}", "x-mq-language": "JAVA", "x-mq-client-version": "5.0.7", "x-mq-protocol": "v2"}
HANDLES = {"receipt_handle": "handle", "recall_handle": "recall"}
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def rfc3339(ms):
    t = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{t}.{ms % 1000:03d}Z" if ms % 1000 else f"{t}Z"


def real_name(run, index, key, spec):
    """The name of a topic or group in this run; keys with S_ are shared by all cases."""
    if key.startswith("S_"):
        return f"TR_{run}_{key}"
    return f"{spec.get('prefix', '')}TR_{run}_{index}_{key}{spec.get('suffix', '')}"


class Context:
    """The names, saved values and open streams of one case in one run."""

    def __init__(self, case, run, index, target):
        self.case, self.target = case, target
        self.vars, self.numbered, self.generated_ts, self.literals = {}, {}, {}, set()
        self.streams, self.pending, self.marks, self.channels = {}, {}, {}, []
        self.date = ""
        self.transactions = {}
        setup = case.get("setup", {})
        for kind in ("topics", "groups"):
            for key, spec in setup.get(kind, {}).items():
                self.vars[key] = real_name(run, index, key, spec)
        self.vars["client"] = f"TR_{run}_{index}@client"
        self.vars["client2"] = f"TR_{run}_{index}@second"
        self.vars["run"] = run
        self.reverse = {v: k for k, v in self.vars.items() if k != "run"}
        self.vars["host"], self.vars["port"] = target.host, str(target.port)

    # ---- placeholders -> values -------------------------------------------------------------
    def fill(self, value):
        if isinstance(value, dict):
            return {self.fill(k): self.fill(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(v) for v in value]
        if not isinstance(value, str):
            return value
        if "{" not in value:
            self.literals.add(value)
            return value
        return PLACEHOLDER.sub(lambda m: self.expand(m.group(1)), value)

    def expand(self, name):
        if name in self.vars:
            return self.vars[name]
        if re.fullmatch(r"id\d+", name):
            self.vars[name] = "01" + uuid.uuid4().hex.upper()[:32]
            self.reverse[self.vars[name]] = name
            return self.vars[name]
        if re.fullmatch(r"now[+-]?\d*", name):
            text = rfc3339(int(time.time() * 1000) + int(name[3:] or 0))
            self.generated_ts[text] = name
            return text
        if re.fullmatch(r"date[+-]?\d*", name):  # what a client signs, this many seconds from now
            self.date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + int(name[4:] or 0)))
            return self.date
        if name == "uuid":
            return str(uuid.uuid4())
        kind, _, rest = name.partition(":")
        if kind == "b64":
            return base64.b64encode(rest.encode()).decode()
        if kind == "b64x":
            return base64.b64encode(b"x" * int(rest)).decode()
        if kind == "b64gzip":
            return base64.b64encode(gzip.compress(rest.encode(), mtime=0)).decode()
        if kind == "b64zlib":
            return base64.b64encode(zlib.compress(rest.encode())).decode()
        if kind == "mac":  # the signature of the last date with this secret
            return hmac.new(rest.encode(), self.date.encode(), hashlib.sha1).hexdigest()
        if kind == "x":
            return "x" * int(rest)
        if kind == "u":
            return "ü" * int(rest)
        if kind == "field":  # field:h1:3=text -> the handle in h1 with its 4th space-separated field replaced
            var, _, change = rest.partition(":")
            at, _, text = change.partition("=")
            parts = self.vars[var].split(" ")
            parts[int(at)] = self.vars.get(text, text)
            return " ".join(parts)
        if kind == "head":  # head:h1:8 -> the first 8 fields
            var, _, n = rest.partition(":")
            return " ".join(self.vars[var].split(" ")[:int(n)])
        raise KeyError(f"unknown placeholder {{{name}}} in case {self.case['name']}")

    # ---- answers -> normalised --------------------------------------------------------------
    def normal(self, value, key=""):
        if isinstance(value, dict):
            self.learn_transaction(value)
            return {self.normal_text(k): self.normal(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.normal(v, key) for v in value]
        if not isinstance(value, str) or not value:
            if key == "port" and value == self.target.port:
                return "<port>"
            return value
        if key == "TRANSACTION_CHECK_TIMES" and value not in self.literals:
            return "<n>"  # counts the broker's scans, heard or not
        if key in ("receipt_handle", "recall_handle"):
            return value if value in self.literals else self.number(HANDLES[key], value)
        if key == "born_host" and value not in self.literals:
            return re.sub(r":\d+$", ":<port>", value)
        if key == "store_host" and value not in self.literals:
            return "<broker-address>"
        if key in ("message_id", "transaction_id") and value not in self.literals:
            text = self.normal_text(value)
            return text if text != value else self.number("id", value)
        if key == "body":
            return value if len(value) < 400 else f"<{len(base64.b64decode(value))} bytes>"
        if TIMESTAMP.match(value):
            return self.timestamp(value, key)
        return self.normal_text(value)

    def learn_transaction(self, value):
        """Apache names a transaction by its message's id, and the record with it; ours carries a sealed text."""
        sealed, message = value.get("transaction_id"), value.get("message_id")
        if isinstance(value.get("message"), dict):
            message = value["message"].get("system_properties", {}).get("message_id")
        if sealed and sealed != message and message in self.reverse:
            self.transactions[message], self.reverse[sealed] = sealed, self.reverse[message]

    def number(self, kind, value):
        seen = self.numbered.setdefault(kind, {})
        return f"<{kind}:{seen.setdefault(value, len(seen) + 1)}>"

    def timestamp(self, value, key):
        sent = self.generated_ts.get(value)
        if sent and (sent != "now" or key == "born_timestamp"):  # else the same millisecond by chance
            return "{" + sent + "}"
        if value.startswith("1970-01-01"):
            return value
        t = self.seconds(value)
        for text, name in self.generated_ts.items():
            if name != "now" and abs(self.seconds(text) - t) < 1.001 and abs(t - time.time()) > 1:
                return "<about {" + name + "}>"
        return "<now>" if abs(t - time.time()) < 90 else "<ts>"

    @staticmethod
    def seconds(text):
        base, _, fraction = text.rstrip("Z").partition(".")
        t = datetime.datetime.strptime(base, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc).timestamp()
        return t + float("0." + (fraction or "0"))

    def normal_text(self, text):
        for actual in sorted(self.reverse, key=len, reverse=True):
            if actual in text:
                text = text.replace(actual, "{" + self.reverse[actual] + "}")
        if text in self.literals:
            return text
        for handle, n in self.numbered.get("handle", {}).items():
            text = text.replace(handle, f"<handle:{n}>")
        text = re.sub(r"TR_" + self.vars["run"] + r"_\d+_", "TR_{run}_<n>_", text)
        text = text.replace("_" + self.vars["run"], "_{run}")
        text = re.sub(r"\[id: 0x[0-9a-f]+[^\]]*\]", "<channel>", text)
        text = re.sub(r"(?<![\w.])127\.0\.0\.1:\d+", "<address>", text)
        text = re.sub(r"@[0-9a-f]{6,8}\b", "@<hash>", text)
        text = re.sub(r"(?<!\d)1[78]\d{11}(?!\d)", "<ms>", text)
        text = re.sub(r"x{40,}", lambda m: f"<x*{len(m.group())}>", text)
        text = re.sub(r"(cost|beginTimer|after|elapsed)[^\d]{0,12}\d+\s*ms", r"\1 <n>ms", text)
        return text

    def close(self):
        for stream in self.streams.values():
            stream.cancel()
        for channel in self.channels:
            channel.close()


class Stream:
    """A Telemetry stream that stays open over several steps."""

    def __init__(self, channel, metadata, timeout):
        self.out, self.got = queue.Queue(), queue.Queue()
        stub = channel.stream_stream(SERVICE + "Telemetry", request_serializer=None, response_deserializer=None)
        self.call = stub(iter(self.out.get, None), metadata=metadata, timeout=timeout)
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self):
        try:
            for raw in self.call:
                self.got.put(("message", raw))
        except grpc.RpcError:
            pass
        self.got.put(("end", (self.call.code().name, self.call.details() or "")))

    def cancel(self):
        self.call.cancel()
        self.out.put(None)  # after the cancel, or the half-close could overtake it


class Target:
    """The proxy under test: address, shared channel, and the admin connection behind it."""

    def __init__(self, endpoint, admin=None, remoting=None):
        self.remoting = remoting or endpoint
        self.host, port = endpoint.rsplit(":", 1)
        self.port = int(port)
        self.admin = admin
        self.options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                        ("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]
        self.shared = self.channel()

    def channel(self, **extra):
        return grpc.insecure_channel(f"{self.host}:{self.port}",
                                     options=self.options + [("grpc.use_local_subchannel_pool", 1), *extra.items()])


def to_json(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def find(tree, path):
    for part in path.split("."):
        if isinstance(tree, list) and part == "*":  # the first element that has the rest of the path
            continue
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def pick(answers, path):
    """'message.system_properties.receipt_handle' in the n-th answer carrying it ('#1:' prefix; default 0)."""
    n = 0
    if path.startswith("#"):
        head, path = path.split(":", 1)
        n = int(head[1:])
    hits = []
    for answer in answers:
        try:
            hits.append(find(answer, path))
        except (KeyError, IndexError, TypeError):
            continue
    return hits[n] if n < len(hits) else ""


def metadata_of(ctx, step):
    """The headers of a call. `user` stands for those of a client, signed with `secret` if there is one."""
    headers = step.get("metadata", {})
    if "user" in step:
        headers = {**CLIENT, **headers}
    if "secret" in step:
        signature = f"Credential={step['user']}, SignedHeaders=x-mq-date-time, Signature={{mac:{step['secret']}}}"
        headers = {**headers, "x-mq-date-time": "{date}", "authorization": "MQv2-HMAC-SHA1 " + signature}
    return [(k, ctx.fill(v)) for k, v in headers.items()]


def perform_call(ctx, step):
    """One RPC. Returns (raw json answers, grpc status, elapsed ms)."""
    rpc = step["rpc"]
    method = METHODS.get(rpc)
    metadata = metadata_of(ctx, step)
    if "raw" in step:
        body = bytes.fromhex(step["raw"])
    else:
        request = ctx.fill(step.get("request", {}))
        if "transaction_id" in request:
            request["transaction_id"] = ctx.transactions.get(request["transaction_id"], request["transaction_id"])
        body = json_format.ParseDict(request, TYPES[rpc][0]()).SerializeToString()
    channel = ctx.target.shared
    if step.get("own_connection"):
        channel = ctx.target.channel()
        ctx.channels.append(channel)
    path = step.get("path") or SERVICE + rpc
    streaming = bool(method) and method.server_streaming
    factory = channel.unary_stream if streaming else channel.unary_unary
    # A call that streams may wait for its deadline. Others are answered at once, except on a machine that stands still.
    timeout = step.get("deadline_ms", 3000 if streaming else 30000)
    timeout = timeout and timeout / 1000
    extra = {"compression": grpc.Compression.Gzip} if step.get("grpc_compression") else {}
    start = time.monotonic()
    answers, code, details = [], "OK", ""
    call = None
    try:
        if streaming:
            call = factory(path)(body, metadata=metadata, timeout=timeout, **extra)
            ctx.pending.get(step.get("async"), {})["call"] = call
            for raw in call:
                answers.append((raw, int((time.monotonic() - start) * 1000)))
            code, details = call.code().name, call.details() or ""
        else:
            future = factory(path).future(body, metadata=metadata, timeout=timeout, **extra)
            ctx.pending.get(step.get("async"), {})["call"] = future
            raw = future.result()
            answers.append((raw, int((time.monotonic() - start) * 1000)))
    except grpc.RpcError as e:
        code, details = e.code().name, e.details() or ""
    except grpc.FutureCancelledError:
        code, details = "CANCELLED", "cancelled by the client"
    elapsed = int((time.monotonic() - start) * 1000)
    kind = TYPES[rpc][1] if method else None
    parsed = [to_json(kind.FromString(raw)) if kind else {"raw": raw.hex()} for raw, _ in answers]
    return parsed, {"code": code, "details": details}, elapsed


def wire_status(answers):
    """The first in-band Status of an answer list, as name and text."""
    for a in answers:
        if "status" in a:
            return {"code": a["status"].get("code", "CODE_UNSPECIFIED"), "message": a["status"].get("message", "")}
    return None


def foreign_offset(request):
    """True when the offset counts messages of other cases: shared topic, timer topic, half-message topic."""
    return any(mark in request for mark in ('"{S_', '%{S_', "delivery_timestamp", '"TRANSACTION"'))


CLIENT_MADE = ("DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE")  # their text is the client library's


def finish(ctx, step, parsed, status, elapsed):
    for name, path in step.get("save", {}).items():
        ctx.vars[name] = pick(parsed, path)
    if step.get("rpc") == "SendMessage" and foreign_offset(json.dumps(step.get("request", ""))):
        for entry in (e for a in parsed for e in a.get("entries", []) if "message_id" in e):
            entry["offset"] = "<offset>"
    for a in parsed:  # a pushed half message shows its offset in the half-message topic of all
        half = a.get("recover_orphaned_transaction_command", {}).get("message", {}).get("system_properties", {})
        if "queue_offset" in half:
            half["queue_offset"] = "<offset>"
    if step.get("status_only"):
        parsed = [{"status": a["status"]} for a in parsed if "status" in a]
    out = {"answers": [ctx.normal(a) for a in parsed],
           "status": {"code": status["code"], "details": "" if status["code"] in CLIENT_MADE else ctx.normal_text(status["details"])}}
    wire = wire_status(out["answers"])
    if wire:
        out["wire"] = wire
    out["ms"] = elapsed
    if step.get("since") in ctx.marks:
        out["ms_since_mark"] = int((time.monotonic() - ctx.marks[step["since"]]) * 1000)
    return out


def do_call(ctx, step):
    if step.get("mark"):
        ctx.marks[step["mark"]] = time.monotonic()
    if "async" in step:
        slot = ctx.pending[step["async"]] = {}
        slot["step"] = step
        thread = threading.Thread(target=lambda: slot.update(result=perform_call(ctx, step)), daemon=True)
        slot["thread"] = thread
        thread.start()
        return {}
    if "until" in step:  # repeat until an answer holds this field ("message"), or the tries are used up
        for attempt in range(step.get("tries", 10)):
            result = perform_call(ctx, step)
            if any(step["until"] in a for a in result[0]):
                break
            time.sleep(step.get("gap_ms", 200) / 1000)
    else:
        result = perform_call(ctx, step)
    return finish(ctx, step, *result)


def do_join(ctx, step):
    slot = ctx.pending[step["of"]]
    slot["thread"].join(step.get("within_ms", 60000) / 1000)
    if "result" not in slot:
        return {"answers": [], "status": {"code": "STILL_RUNNING", "details": ""}}
    return finish(ctx, {**slot["step"], **step}, *slot["result"])


def do_cancel(ctx, step):
    slot = ctx.pending[step["of"]]
    if "call" in slot:
        slot["call"].cancel()
    return {}


def do_telemetry(ctx, step):
    name = step.get("stream", "s")
    if name not in ctx.streams:
        metadata = metadata_of(ctx, step)
        ctx.streams[name] = Stream(ctx.target.shared, metadata, step.get("deadline_s"))
    stream = ctx.streams[name]
    start = time.monotonic()
    for command in step.get("send", []):
        stream.out.put(json_format.ParseDict(ctx.fill(command), pb.TelemetryCommand()).SerializeToString())
    if step.get("half_close"):
        stream.out.put(None)
    if step.get("cancel"):
        stream.cancel()
    parsed, status = [], {"code": "STREAM_OPEN", "details": ""}
    end = start + step.get("recv_ms", 3000) / 1000
    while len(parsed) < step.get("expect", 1):
        try:
            kind, value = stream.got.get(timeout=max(0.001, end - time.monotonic()))
        except queue.Empty:
            break
        if kind == "end":
            status = {"code": value[0], "details": value[1]}
            break
        parsed.append(to_json(pb.TelemetryCommand.FromString(value)))
    out = finish(ctx, step, parsed, status, int((time.monotonic() - start) * 1000))
    return out


def do_remoting(ctx, step):
    """A request of the remoting protocol, signed with `secret` if there is one. What counts is the refusal."""
    fields, body = ctx.fill(step.get("fields")), json.dumps(step["body"]).encode() if "body" in step else b""
    if "secret" in step:
        fields = remoting.signed(fields or {}, body, step["user"], step["secret"])
    answer, _ = remoting.call(ctx.target.remoting, step["code"], fields, body)
    return {"answers": [{key: ctx.normal(answer[key]) for key in ("code", "remark") if answer.get(key) is not None}]}


def do_sleep(ctx, step):
    time.sleep(step["sleep_ms"] / 1000)
    return {}


def do_mark(ctx, step):
    ctx.marks[step["name"]] = time.monotonic()
    return {}


def do_admin(ctx, step):
    getattr(ctx.target.admin, step["cmd"])(ctx.fill(step["name"]), *([step["spec"]] if "spec" in step else []))
    return {}


def do_probe(ctx, step):
    import probes
    start = time.monotonic()
    seen = getattr(probes, step["probe"])(ctx, **ctx.fill(step.get("args", {})))
    return {"answers": [ctx.normal(a) for a in seen], "ms": int((time.monotonic() - start) * 1000)}


DO = {"call": do_call, "remoting": do_remoting, "join": do_join, "cancel": do_cancel, "telemetry": do_telemetry, "sleep": do_sleep,
      "mark": do_mark, "admin": do_admin, "probe": do_probe}
OBSERVED = ("answers", "status", "wire", "ms", "ms_since_mark", "error")


def play(case, run, index, target):
    """Returns the case's steps, each with what was observed."""
    ctx = Context(case, run, index, target)
    steps = []
    try:
        for step in case["steps"]:
            step = {k: v for k, v in step.items() if k not in OBSERVED}
            try:
                seen = DO[step.get("do", "call")](ctx, step)
            except Exception as e:  # a step that cannot be performed is an observation too
                seen = {"error": ctx.normal_text(f"{type(e).__name__}: {e}")[:500]}
            steps.append({**step, **seen})
    finally:
        ctx.close()
    return steps
