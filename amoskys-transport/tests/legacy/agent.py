"""An agent of the predecessor, as its Python code was: real gRPC, protobuf and signatures, driven line by line.

Each line of the input is a JSON object with `do`; each line of the output the answer to it.
"""

import json
import sys

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
STRING, UINT64, UINT32, BYTES, INT32, ENUM, MESSAGE = (
    FIELD.TYPE_STRING,
    FIELD.TYPE_UINT64,
    FIELD.TYPE_UINT32,
    FIELD.TYPE_BYTES,
    FIELD.TYPE_INT32,
    FIELD.TYPE_ENUM,
    FIELD.TYPE_MESSAGE,
)
MESSAGES = {
    "FlowEvent": [
        ("src_ip", STRING),
        ("dst_ip", STRING),
        ("src_port", UINT32),
        ("dst_port", UINT32),
        ("protocol", STRING),
        ("bytes_sent", UINT64),
        ("bytes_recv", UINT64),
        ("flags", UINT32),
        ("start_time", UINT64),
        ("end_time", UINT64),
        ("bytes_tx", UINT64),
        ("bytes_rx", UINT64),
        ("proto", STRING),
        ("duration_ms", UINT32),
    ],
    "Envelope": [
        ("version", STRING),
        ("ts_ns", UINT64),
        ("idempotency_key", STRING),
        ("flow", MESSAGE, ".messaging.FlowEvent"),
        ("sig", BYTES),
        ("prev_sig", BYTES),
        ("payload", BYTES),
        ("schema_version", UINT32),
    ],
    "PublishAck": [
        ("status", ENUM, ".messaging.PublishAck.Status"),
        ("reason", STRING),
        ("backoff_hint_ms", INT32),
    ],
}


def classes():
    """The message classes, without a compiler."""
    file = descriptor_pb2.FileDescriptorProto(name="messaging.proto", package="messaging", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, *type_name) in enumerate(fields, 1):
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=FIELD.LABEL_OPTIONAL,
                type_name=type_name[0] if type_name else None,
            )
    status = file.message_type[-1].enum_type.add(name="Status")
    for number, value in enumerate(["OK", "RETRY", "INVALID", "UNAUTHORIZED"]):
        status.value.add(name=value, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return [message_factory.GetMessageClass(find("messaging." + name)) for name in MESSAGES]


FlowEvent, Envelope, PublishAck = classes()


def canonical(envelope):
    """The bytes that are signed."""
    signed = Envelope(
        version=envelope.version,
        ts_ns=envelope.ts_ns,
        idempotency_key=envelope.idempotency_key,
    )
    if envelope.HasField("flow"):
        signed.flow.CopyFrom(envelope.flow)
    return signed.SerializeToString()


def sign(path, envelope):
    with open(path, "rb") as file:
        key = Ed25519PrivateKey.from_private_bytes(file.read())
    return key.sign(canonical(envelope))


class Agent:
    def __init__(self):
        self.channel = None

    def connect(self, address, ca, cert=None, key=None):
        def read(path):
            if path is None:
                return None
            with open(path, "rb") as file:
                return file.read()

        if self.channel:
            self.channel.close()
        credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
        self.channel = grpc.secure_channel(address, credentials)
        self.publish_bytes = self.channel.unary_unary(
            "/messaging.EventBus/Publish",
            request_serializer=bytes,
            response_deserializer=PublishAck.FromString,
        )
        return {}

    def make(self, fields, sign_with=None):
        """An envelope as its sender makes it, serialized."""
        fields = dict(fields)
        flow = fields.pop("flow", None)
        payload = fields.pop("payload_flow", None)
        envelope = Envelope(**{k: bytes.fromhex(v) if k in ("sig", "prev_sig") else v for k, v in fields.items()})
        if flow is not None:
            envelope.flow.SetInParent()
            for name, value in flow.items():
                setattr(envelope.flow, name, value)
        if payload is not None:
            envelope.payload = FlowEvent(**payload).SerializeToString()
        if sign_with:
            envelope.sig = sign(sign_with, envelope)
        return {"bytes": envelope.SerializeToString().hex(), "sig": envelope.sig.hex()}

    def sign(self, bytes_, key):
        """What the sender of these bytes signs, once they were parsed."""
        envelope = Envelope.FromString(bytes.fromhex(bytes_))
        return {"sig": sign(key, envelope).hex(), "canonical": canonical(envelope).hex()}

    def publish(self, bytes_, timeout=20):
        try:
            ack = self.publish_bytes(bytes.fromhex(bytes_), timeout=timeout)
        except grpc.RpcError as error:
            return {"error": error.code().name, "details": error.details()}
        return {
            "status": PublishAck.DESCRIPTOR.enum_types_by_name["Status"].values_by_number[ack.status].name,
            "reason": ack.reason,
            "backoff_hint_ms": ack.backoff_hint_ms,
        }

    def publish_many(self, envelopes):
        """All at once."""
        calls = [self.publish_bytes.future(bytes.fromhex(envelope), timeout=20) for envelope in envelopes]
        return {"statuses": [call.result().status for call in calls]}

    def call(self, path):
        try:
            self.channel.unary_unary(path)(b"", timeout=20)
        except grpc.RpcError as error:
            return {"error": error.code().name, "details": error.details()}
        return {}


def main():
    agent = Agent()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(agent, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


main()
