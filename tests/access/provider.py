"""An identity provider on loopback: signs tokens, publishes its keys, counts who asks for them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "tauserve"


@dataclass
class Provider:
    """The issuer; `keys` are its private keys by id."""

    url: str
    keys: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add_rsa(self, key_id: str) -> None:
        """A new RSA key."""
        self.keys[key_id] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def add_ec(self, key_id: str) -> None:
        """A new P-256 key."""
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    def token(self, key_id: str = "r1", *, algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        """A good token but for what is given; a claim of None is left out."""
        now = int(time.time())
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "robot",
            "iat": now,
            "exp": now + 300,
            "scope": "openid tauserve",
        }
        payload = {name: value for name, value in {**good, **claims}.items() if value is not None}
        return jwt.encode(payload, key or self.keys[key_id], algorithm=algorithm, headers={"kid": key_id})

    def documents(self) -> dict[str, Any]:
        """What it publishes, by path."""
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [_public(key_id, key) for key_id, key in self.keys.items()]},
        }


def _public(key_id: str, key: Any) -> dict[str, Any]:
    kind = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider with an RSA key `r1` and an elliptic one `e1`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name the base class looks for
            issuer.asked.append(self.path)
            data = json.dumps(issuer.documents()[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        issuer = Provider(f"http://127.0.0.1:{listener.server_port}")
        issuer.add_rsa("r1")
        issuer.add_ec("e1")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield issuer
        finally:
            listener.shutdown()
            thread.join()
