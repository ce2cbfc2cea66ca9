"""A Python grpcio client against a running node. Run by tests/tests/python_client.rs, which starts the node and says what is where:

GROUPCACHE_PEERS    addresses of the nodes' peer sides, with commas; all of one fleet

The origin of the group `web` answers a key with a value that starts with `value of <key>`, but: `missing 1` and `missing 2` are not there, `failing`
is a 500, `empty` has no bytes, `large` 3 MiB of them, and `slow deadline` is never answered. The group `files` is a directory that holds
`ok.txt`, and `link`, which leads out of it.
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

    def refused(self, group, key, **options):
        """The error that this request must be answered with."""
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.get(group, key, **options)
        return caught.exception

    def assert_value(self, key, value):
        self.assertTrue(value.startswith(f"value of {key}\n".encode()), f"{key}: {value[:80]!r}")

    def test_value(self):
        self.assert_value("k", self.client.get("web", "k"))
        self.assert_value("k", self.client.get("web", "k"))

    def test_every_node_answers_every_key(self):
        for address in ADDRESSES:
            client = Client(address)
            self.addCleanup(client.close)
            for index in range(30):
                self.assert_value(f"key {index}", client.get("web", f"key {index}"))

    def test_empty_value_is_a_value(self):
        self.assertEqual(self.client.get("web", "empty"), b"")

    def test_large_value_comes_whole(self):
        value = self.client.get("web", "large")
        self.assertEqual(len(value), 3 << 20)

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
        self.assertEqual(self.refused("web", "").code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_empty_group_is_refused(self):
        codes = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn(self.refused("", "k").code(), codes)

    def test_key_over_the_limit_is_invalid(self):
        self.assertEqual(self.refused("web", "k" * 200_000).code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_failing_origin_is_neither_not_found_nor_a_value(self):
        error = self.refused("web", "failing")
        codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.ABORTED)
        self.assertIn(error.code(), codes)
        self.assertTrue(error.details())

    def test_key_that_is_not_utf8_is_refused(self):
        call = self.client.call(GET)
        with self.assertRaises(grpc.RpcError) as caught:
            call(RawRequest(group=b"web", key=b"\xff\xfe"), timeout=20)
        self.assertIn(caught.exception.code(), (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT))

    def test_bytes_that_are_no_message_are_refused(self):
        call = self.client.call(GET)
        with self.assertRaises(grpc.RpcError) as caught:
            call(b"\xff" * 50, timeout=20)
        self.assertIn(caught.exception.code(), (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT))
        self.assert_value("k", self.client.get("web", "k"))

    def test_unknown_method_and_service_are_unimplemented(self):
        for method in ("/groupcachepb.GroupCache/Put", "/somebody.Else/Get"):
            with self.assertRaises(grpc.RpcError) as caught:
                self.client.call(method)(GetRequest(group="web", key="k"), timeout=20)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED, method)

    def test_deadline_is_kept_and_the_connection_lives_on(self):
        started = time.monotonic()
        error = self.refused("web", "slow deadline", timeout=0.3)
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
