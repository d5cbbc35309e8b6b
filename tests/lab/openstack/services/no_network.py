"""A network service without networks: the empty answers that Nova needs of Neutron.

Nova asks for ports and networks when a server without any is shown or deleted.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers GET /v2.0/WORD with an empty list."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0].strip("/").removesuffix(".json")
        _, _, word = path.partition("/")
        body: object = {word.replace("-", "_"): []}
        if not word:
            link = {"rel": "self", "href": f"http://{self.headers['Host']}/v2.0/"}
            body = {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
