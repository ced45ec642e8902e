"""Creates the topics and groups of the cases over the proxy's own administration service."""
import grpc
from google.protobuf.duration_pb2 import Duration

from rocketmq.thin.v1 import admin_pb2 as pb

APPLY = "/rocketmq.thin.v1.Admin/Apply"
READABLE, WRITABLE = 4, 2  # the bits of a recorded permission


def topic(name, spec):
    queues, perm = spec.get("queues", 1), spec.get("perm", READABLE | WRITABLE)
    return pb.Topic(
        name=name, type=pb.TopicType.Value(spec.get("type", "NORMAL")),
        read_queues=spec.get("read", queues), write_queues=spec.get("write", queues),
        readable=bool(perm & READABLE), writable=bool(perm & WRITABLE))


def group(name, spec):
    made = pb.Group(name=name, fifo=spec.get("fifo", False), consume=spec.get("consume", True),
                    max_retries=spec.get("retry_max", 16), lite_quota=LITE_QUOTA)
    if "retry_policy" in spec:
        for ms in spec["retry_policy"]["customizedRetryPolicy"]["next"]:
            made.customized.next.append(Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000))
    else:
        for seconds in CUSTOMIZED:
            made.customized.next.append(Duration(seconds=seconds))
    bind = spec.get("attributes", {}).get("lite.bind.topic")
    if bind:
        made.lite_bind_topic = bind
    return made


# What a group has that says nothing else: Apache's defaults.
CUSTOMIZED = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200]
LITE_QUOTA = 2000


class Admin:
    def __init__(self, endpoint):
        self.apply = grpc.insecure_channel(endpoint).unary_unary(
            APPLY, request_serializer=pb.ApplyRequest.SerializeToString, response_deserializer=pb.ApplyResponse.FromString)

    def create(self, topics, groups):
        self.apply(pb.ApplyRequest(
            topics=[topic(name, spec) for name, spec in topics.items()],
            groups=[group(name, spec) for name, spec in groups.items()], replace=True), timeout=60)

    def create_topic(self, name, spec):
        self.create({name: spec}, {})

    def create_group(self, name, spec):
        self.create({}, {name: spec})
