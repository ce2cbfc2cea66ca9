"""The Go system's wire contract, stated once more and from the outside.

The descriptors are built here, not generated from the repository's .proto file: a client that was generated from that file would agree with
whatever it says. They are what a Go node has: package groupcachepb, service GroupCache, method Get, group = 1, key = 2, value = 1.
"""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

GET = "/groupcachepb.GroupCache/Get"


def _messages():
    string = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    data = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="groupcachepb", syntax="proto3")
    for name, fields in {
        "GetRequest": [("group", 1, string), ("key", 2, string)],
        "GetResponse": [("value", 1, data)],
        # The same request for bytes that are not UTF-8, which protobuf's strings refuse to carry.
        "RawRequest": [("group", 1, data), ("key", 2, data)],
    }.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"groupcachepb.{name}"))
        for name in ("GetRequest", "GetResponse", "RawRequest")
    ]


GetRequest, GetResponse, RawRequest = _messages()


class Client:
    """A client of one node, which takes and sends large messages unless it is told to have the limits of its make; `options` are of the channel."""

    def __init__(self, address, default_limits=False, options=()):
        limits = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
        limits = [] if default_limits else limits
        self.channel = grpc.insecure_channel(address, options=[*limits, ("grpc.enable_http_proxy", 0), *options])

    def get(self, group, key, timeout=20, **options):
        """The value as bytes; raises grpc.RpcError."""
        call = self.call(GET)
        return call(GetRequest(group=group, key=key), timeout=timeout, **options).value

    def call(self, method, response_deserializer=GetResponse.FromString):
        """Any unary method, with a request that serialises itself."""
        return self.channel.unary_unary(
            method,
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=response_deserializer,
        )

    def close(self):
        """Closes the connection."""
        self.channel.close()
