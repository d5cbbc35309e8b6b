"""What a control API on TCP and its clients have: certificates, tokens, an access file."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.api.certificates import Authority, Pair
from tests.api.serving import Api
from volplug.api.access import make_token
from volplug.config import Settings


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@dataclass
class Site:
    """A host with its files, and what its clients have."""

    authority: Authority
    settings: Settings
    access: Path
    reader: str
    admin: str

    @property
    def base(self) -> str:
        return f"https://localhost:{self.settings.control_address[1]}"

    def trusting(self, shown: Pair | None = None) -> ssl.SSLContext:
        """Return how a client speaks TLS that trusts the authority and may show a certificate."""
        context = ssl.create_default_context(cafile=self.authority.pair.certificate)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    @asynccontextmanager
    async def client(self, shown: Pair | None = None) -> AsyncIterator[Api]:
        connector = aiohttp.TCPConnector(ssl=self.trusting(shown))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Api(session, self.base)


def made_in(directory: Path) -> Site:
    """Return a site whose files lie in a directory; nothing is served yet."""
    authority = Authority(directory)
    server = authority.issue("server")
    (reader, reads), (admin, administers) = make_token("read", "monitoring"), make_token("admin", "deployer")
    access = directory / "access"
    access.write_text(f"{reads}\n{administers}\nread viewer cert:viewer\nadmin node2 cert:node2\n")
    access.chmod(0o600)
    settings = Settings(
        control_socket=directory / "c.sock",
        control_listen=f"127.0.0.1:{free_port()}",
        control_names="localhost, 127.0.0.1, Node1.example.com",
        control_cert=server.certificate,
        control_key=server.key,
        control_client_ca=authority.pair.certificate,
        control_access=access,
    )
    return Site(authority, settings, access, reader, admin)
