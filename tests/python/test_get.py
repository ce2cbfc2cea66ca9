"""A Python grpcio client against a running node. Run by tests/tests/python_client.rs, which starts the node and says what is where:

GROUPCACHE_PEERS    addresses of the nodes' peer sides, with commas; all of one fleet

The origin of the group `web` answers a key with a value that starts with `value of <key>`, but: `missing 1` and `missing 2` are not there, `failing`
is a 500, `empty` has no bytes, `large` 3 MiB of them, `fits 4 MiB` as many as a client takes which sets no limit, `over 4 MiB` one more, and `slow
deadline` and `slow 50 ms` are never answered. The group `files` is a directory that holds `ok.txt`, and `link`, which leads out of it.

Codes are the ones of ARCHITECTURE.md's Wire section, exactly; what a Go node answers differently is said where it is.
"""

import os
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import grpc

from wire import GET, Client, GetRequest, RawRequest

ADDRESSES = os.environ["GROUPCACHE_PEERS"].split(",")


class GetTest(unittest.TestCase):
    def setUp(self):
        self.client = Client(ADDRESSES[0])
        self.addCleanup(self.client.close)

    def connect(self, address=ADDRESSES[0], **options):
        """Another client, closed with the test."""
        client = Client(address, **options)
        self.addCleanup(client.close)
        return client

    def refused(self, group, key, **options):
        """The error that this request must be answered with."""
        return self.refused_by(lambda: self.client.get(group, key, **options))

    def refused_by(self, call):
        """The error that this call must end with."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        return caught.exception

    def assert_value(self, key, value):
        self.assertTrue(value.startswith(f"value of {key}\n".encode()), f"{key}: {value[:80]!r}")

    def test_value(self):
        self.assert_value("k", self.client.get("web", "k"))
        self.assert_value("k", self.client.get("web", "k"))

    def test_every_node_answers_every_key(self):
        for address in ADDRESSES:
            client = self.connect(address)
            for index in range(30):
                self.assert_value(f"key {index}", client.get("web", f"key {index}"))

    def test_clients_that_name_the_node_by_its_service_are_served(self):
        """As a Go node does that has found this one through etcd."""
        for address in ADDRESSES:
            for authority in ("groupcache%2Flocalhost:8044", "groupcache/localhost:8044"):
                options = [("grpc.default_authority", authority), ("grpc.primary_user_agent", "grpc-go/1.57.0")]
                client = self.connect(address, options=options)
                for index in range(5):
                    self.assert_value(f"authority {index}", client.get("web", f"authority {index}", timeout=10))

    def test_no_metadata_comes_with_a_value_and_one_entry_with_a_failure(self):
        """A Go client looks at none: what a value needs is in the message, and what a failure needs in code and text."""
        message, call = self.client.call(GET).with_call(GetRequest(group="web", key="k"), timeout=20)
        self.assert_value("k", message.value)
        self.assertLessEqual({key for key, _ in call.initial_metadata()}, {"date"})
        self.assertEqual(list(call.trailing_metadata()), [])
        self.assertEqual((call.code(), call.details()), (grpc.StatusCode.OK, ""))
        error = self.refused("web", "missing 1")
        sent = {key: value for key, value in error.trailing_metadata() if key != "date"}
        self.assertEqual(sent, {"groupcache-error": "not_found"})

    def test_empty_value_is_a_value(self):
        self.assertEqual(self.client.get("web", "empty"), b"")
        message = self.client.call(GET, bytes)(GetRequest(group="web", key="empty"), timeout=20)
        self.assertEqual(message, b"", "the field is left out")

    def test_large_value_comes_whole(self):
        value = self.client.get("web", "large")
        self.assertEqual(len(value), 3 << 20)

    def test_message_over_4_mib_is_refused_by_a_client_with_the_default_limit_only(self):
        """The node sends it: its own limit follows the largest value that it takes."""
        strict = self.connect(default_limits=True)
        message = strict.call(GET, bytes)(GetRequest(group="web", key="fits 4 MiB"), timeout=20)
        self.assertEqual(len(message), 4 << 20)
        error = self.refused_by(lambda: strict.get("web", "over 4 MiB"))
        self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(list(error.trailing_metadata() or ()), [], "the client's own words, not the node's")
        self.assertEqual(len(self.client.get("web", "over 4 MiB")), (4 << 20) - 4)
        self.assert_value("k", strict.get("web", "k"))

    def test_compressed_request_is_unimplemented(self):
        """Nodes compress nothing and take nothing compressed, in either language."""
        call = self.client.call(GET)
        request = GetRequest(group="web", key="k" * 1000)
        error = self.refused_by(lambda: call(request, timeout=20, compression=grpc.Compression.Gzip))
        self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assert_value("k", self.client.get("web", "k"))

    def test_utf8_keys(self):
        for key in ["grüße", "ключ", "鍵 🗝", "a b?c=d#e%20", "tab\tnewline\n"]:
            self.assert_value(key, self.client.get("web", key))

    def test_missing_key_is_not_found(self):
        self.assertEqual(self.refused("web", "missing 1").code(), grpc.StatusCode.NOT_FOUND)

    def test_unknown_group_is_not_found_with_another_message(self):
        key, group = self.refused("web", "missing 2"), self.refused("nonsense", "k")
        self.assertEqual(group.code(), grpc.StatusCode.NOT_FOUND)
        self.assertNotEqual(key.details(), group.details())
        self.assertIn("group", group.details())

    def test_empty_key_is_invalid(self):
        """A Go node: UNKNOWN."""
        self.assertEqual(self.refused("web", "").code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_empty_group_is_one_that_is_not_there(self):
        """A Go node: UNKNOWN."""
        self.assertEqual(self.refused("", "k").code(), grpc.StatusCode.NOT_FOUND)

    def test_key_of_70_kb_is_taken(self):
        """No file has such a name, and the node says so: the key has reached its origin."""
        self.assertEqual(self.refused("files", "k" * 70_000).code(), grpc.StatusCode.NOT_FOUND)

    def test_key_over_the_limit_is_invalid(self):
        """Over 128 KiB. A Go node has no limit."""
        self.assertEqual(self.refused("web", "k" * 200_000).code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_failing_origin_is_unknown_with_its_words(self):
        error = self.refused("web", "failing")
        self.assertEqual(error.code(), grpc.StatusCode.UNKNOWN)
        self.assertIn("500", error.details())

    def test_key_that_is_not_utf8_is_internal(self):
        request = RawRequest(group=b"web", key=b"\xff\xfe")
        error = self.refused_by(lambda: self.client.call(GET)(request, timeout=20))
        self.assertEqual(error.code(), grpc.StatusCode.INTERNAL)

    def test_bytes_that_are_no_message_are_internal(self):
        error = self.refused_by(lambda: self.client.call(GET)(b"\xff" * 50, timeout=20))
        self.assertEqual(error.code(), grpc.StatusCode.INTERNAL)
        self.assert_value("k", self.client.get("web", "k"))

    def test_unknown_method_and_service_are_unimplemented(self):
        for method in ("/groupcachepb.GroupCache/Put", "/somebody.Else/Get"):
            error = self.refused_by(lambda: self.client.call(method)(GetRequest(group="web", key="k"), timeout=20))
            self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED, method)

    def test_deadline_is_kept_and_the_connection_lives_on(self):
        for key, limit in [("slow deadline", 0.3), ("slow 50 ms", 0.05)]:
            started = time.monotonic()
            error = self.refused("web", key, timeout=limit)
            self.assertEqual(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            self.assertLess(time.monotonic() - started, 2)
        self.assert_value("k", self.client.get("web", "k"))

    def test_1000_gets_from_16_threads(self):
        keys = [f"many {index % 200}" for index in range(1000)]
        with ThreadPoolExecutor(16) as pool:
            for key, value in zip(keys, pool.map(lambda key: self.client.get("web", key), keys)):
                self.assert_value(key, value)

    def test_no_key_leads_out_of_a_directory(self):
        self.assertEqual(self.client.get("files", "ok.txt"), b"fine")
        for key in ["../secret.txt", "..", "/etc/passwd", "link", "ok.txt\0", "sub/../../secret.txt", "%2e%2e/secret.txt"]:
            codes = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
            self.assertIn(self.refused("files", key).code(), codes, key)


if __name__ == "__main__":
    unittest.main(verbosity=2)
