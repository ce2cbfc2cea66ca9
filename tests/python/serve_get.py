"""A grpcio server that speaks only the Go system's call. Run by tests/tests/python_server.rs, which passes the address to listen on.

A value names the connection that it was asked for by. What `slow` is in takes three seconds.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from wire import GET, GetRequest, GetResponse


class OnlyGet(grpc.GenericRpcHandler):
    """Any other method is UNIMPLEMENTED, as grpcio answers by itself."""

    def service(self, details):
        if details.method != GET:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.get,
            request_deserializer=GetRequest.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    @staticmethod
    def get(request, context):
        if "slow" in request.key:
            time.sleep(3)
        return GetResponse(value=context.peer().encode())


def main():
    server = grpc.server(ThreadPoolExecutor(max_workers=16), handlers=[OnlyGet()])
    if server.add_insecure_port(sys.argv[1]) == 0:
        sys.exit(f"cannot listen on {sys.argv[1]}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
