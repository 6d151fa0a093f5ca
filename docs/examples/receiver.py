"""A receiver: python3 receiver.py PORT SECRET_FILE DATABASE; the secret is whsec_..."""

import base64
import hashlib
import hmac
import json
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, SECRET_FILE, DATABASE = sys.argv[1:4]
with open(SECRET_FILE) as file:
    KEY = base64.b64decode(file.read().strip().removeprefix("whsec_"))
BODY_BYTES_MAX = 32 * 1024 * 1024


def is_signed(headers, body: bytes) -> bool:
    """Whether it comes from who has the secret, unchanged, and lately."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > 300:
        return False
    signed = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    ours = b"v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256))
    # Several stand there while a secret is replaced.
    theirs = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(ours, signature) for signature in theirs)


def store(payload_id: str, body: bytes) -> bool:
    """Keeps what came; False: it came before. On disk when this returns."""
    inbox = sqlite3.connect(DATABASE, timeout=5)
    try:
        with inbox:
            inbox.execute("CREATE TABLE IF NOT EXISTS inbox (payload_id TEXT PRIMARY KEY, body BLOB, done_at TEXT)")
            added = inbox.execute("INSERT OR IGNORE INTO inbox (payload_id, body) VALUES (?, ?)", (payload_id, body))
        return added.rowcount == 1
    finally:
        inbox.close()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(413, "too large")
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            return self.answer(401, "not signed with our secret")
        # Only kept here: the answer must not wait for the work.
        is_new = store(self.headers["webhook-id"], body)
        orders = json.loads(body)["Data"]
        print("stored" if is_new else "known", self.headers["webhook-id"], len(orders), flush=True)
        self.answer(200, "thank you")

    def answer(self, status: int, text: str):
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(PORT)), Receiver)
    print("listening on", server.server_port, flush=True)
    server.serve_forever()
