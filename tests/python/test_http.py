"""The HTTP side of the nodes in GROUPCACHE_HTTP, asked by a client that nobody here wrote: Python's http.client.

Every node is asked the same, so that what is said of a value has crossed from its owner to the others.
"""

import http.client
import os
import unittest

NODES = os.environ["GROUPCACHE_HTTP"].split(",")
BODY = bytes(range(256)) * 16
PAGE = "/web/page.html"


def ask(node, path, method="GET", **fields):
    connection = http.client.HTTPConnection(node, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in fields.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


class EveryNode(unittest.TestCase):
    def each(self, path, **asked):
        for node in NODES:
            with self.subTest(node=node, path=path, asked=asked):
                yield ask(node, path, **asked)

    def test_a_value_has_the_fields_of_its_origin(self):
        for answer, body in self.each(PAGE):
            self.assertEqual((answer.status, body), (200, BODY))
            self.assertEqual(answer.getheader("Content-Type"), "text/html; charset=utf-8")
            self.assertEqual(answer.getheader("ETag"), '"v1"')
            self.assertEqual(answer.getheader("Cache-Control"), "max-age=3600")
            self.assertEqual(answer.getheader("X-Content-Type-Options"), "nosniff")
            self.assertEqual(answer.getheader("Accept-Ranges"), "bytes")
            self.assertIsNone(answer.getheader("Set-Cookie"))

    def test_head_has_them_too_and_no_value(self):
        for answer, body in self.each(PAGE, method="HEAD"):
            self.assertEqual((answer.status, body), (200, b""))
            self.assertEqual(answer.getheader("Content-Length"), str(len(BODY)))
            self.assertEqual(answer.getheader("Content-Type"), "text/html; charset=utf-8")

    def test_who_has_the_value_gets_304(self):
        for answer, body in self.each(PAGE, If_None_Match='"v0", W/"v1"'):
            self.assertEqual((answer.status, body), (304, b""))
            self.assertEqual(answer.getheader("ETag"), '"v1"')
        for answer, body in self.each(PAGE, If_None_Match='"v0"'):
            self.assertEqual((answer.status, body), (200, BODY))

    def test_a_range_is_a_part(self):
        for asked, start, end in [("bytes=0-0", 0, 1), ("bytes=100-299", 100, 300), ("bytes=-7", 4089, 4096)]:
            for answer, body in self.each(PAGE, Range=asked):
                self.assertEqual((answer.status, body), (206, BODY[start:end]))
                self.assertEqual(answer.getheader("Content-Range"), f"bytes {start}-{end - 1}/{len(BODY)}")
                self.assertEqual(answer.getheader("Content-Type"), "text/html; charset=utf-8")

    def test_a_range_of_another_value_is_not_mixed_with_this_one(self):
        for answer, body in self.each(PAGE, Range="bytes=100-", If_Range='"v1"'):
            self.assertEqual((answer.status, body), (206, BODY[100:]))
        for answer, body in self.each(PAGE, Range="bytes=100-", If_Range='"v0"'):
            self.assertEqual((answer.status, body), (200, BODY))

    def test_a_range_beyond_the_end_is_416(self):
        for answer, body in self.each(PAGE, Range=f"bytes={len(BODY)}-"):
            self.assertEqual((answer.status, body), (416, b""))
            self.assertEqual(answer.getheader("Content-Range"), f"bytes */{len(BODY)}")

    def test_a_connection_that_got_304_or_206_goes_on(self):
        for node in NODES:
            connection = http.client.HTTPConnection(node, timeout=30)
            for fields, status in [({"If-None-Match": '"v1"'}, 304), ({"Range": "bytes=1-2"}, 206), ({}, 200)] * 3:
                connection.request("GET", PAGE, headers=fields)
                answer = connection.getresponse()
                answer.read()
                self.assertEqual(answer.status, status)
            connection.close()


if __name__ == "__main__":
    unittest.main()
