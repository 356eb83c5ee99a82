"""What is measured: upstream itself, the router, the bare proxy, nginx; each started as its users would."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from bench.answers import KEY, LOADS
from bench.processes import Child, free_port, python

DIRECT, ROUTER, BARE, NGINX = "direct", "router", "bare aiohttp", "nginx"
_ACCOUNT = "0123456789abcdef0123456789abcdef"

# The shipped policy, its local steps left out: four rules, one of which reads every prompt.
_ROUTER_YAML = r"""
server:
  listen: 127.0.0.1:{port}
  keys:
    - name: bench
      sha256: {key_sha256}
backends:
  fake:
    type: workers_ai
    account_id: {account}
    token:
      file: token
    base_url: http://127.0.0.1:{upstream}/client/v4
    neurons: {{ daily: 1000000000000 }} # counted like any others, and enough
    minute_limits: false
aliases:
{aliases}
rules:
  - name: keep_private_calls_home
    when:
      header: {{ x-private: ".*" }}
      not: {{ header: {{ x-private: "(?i)(0|false|no|off)?" }} }}
    local_only: true
  - name: keep_credentials_home
    when:
      finds: secrets
    local_only: true
  - name: send_long_prompts_to_the_cloud
    when:
      prompt_tokens: {{ above: 3000 }}
    first: cloud
  - name: follow_the_clients_wish
    when:
      header: {{ x-prefer: "(?i)cloud" }}
    first: cloud
log:
  level: info
"""

_NGINX_CONF = """
daemon off;
worker_processes 1;
pid {room}/nginx.pid;
error_log {room}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {room}/body;
  proxy_temp_path {room}/proxy;
  fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi;
  scgi_temp_path {room}/scgi;
  keepalive_requests 1000000000;
  upstream fake {{
    server 127.0.0.1:{upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://fake;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class Subject(Struct):
    """A gateway that listens, or upstream itself."""

    name: str
    port: int
    pids: list[int]


class Field(Struct):
    """Everything that listens, and what is missing."""

    subjects: list[Subject]
    skipped: list[str]


def nginx_path() -> str | None:
    """Where nginx is; it may be outside of a user's path."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def field(load_core: int, gateway_core: int) -> Iterator[Field]:
    """Start everything: upstream on one core, the gateways on the other."""
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        room, upstream = Path(folder), free_port()
        fake = stack.enter_context(Child(python("bench.upstream", upstream), cores={load_core}))
        fake.wait_for(upstream)
        subjects, skipped = [Subject(DIRECT, upstream, [])], []
        for name, port, command in _gateways(room, upstream):
            if command is None:
                skipped.append(f"{name}: not installed, left out")
                continue
            log = room / f"{name.replace(' ', '-')}.log"
            child = stack.enter_context(Child(command, cores={gateway_core}, stderr=log))
            child.wait_for(port)
            subjects.append(Subject(name, port, child.pids))
        yield Field(subjects, skipped)


def _gateways(room: Path, upstream: int) -> Iterator[tuple[str, int, list[str] | None]]:
    """Name, port and command line of each."""
    port = free_port()
    yield BARE, port, python("bench.bare_proxy", port, upstream)
    port = free_port()
    config = router_config(room, port, upstream)
    yield ROUTER, port, python("hybrid_router", "serve", "--config", config, "--log-format", "json")
    port, program = free_port(), nginx_path()
    conf = room / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(room=room, port=port, upstream=upstream))
    yield NGINX, port, None if program is None else [program, "-p", str(room), "-c", str(conf)]


def router_config(room: Path, port: int, upstream: int) -> Path:
    """Write a router.yaml whose only backend is the fake upstream."""
    token = room / "token"
    token.write_text("bench-token-0123456789abcdef")
    token.chmod(0o600)
    config = room / "router.yaml"
    config.write_text(
        _ROUTER_YAML.format(
            port=port,
            upstream=upstream,
            account=_ACCOUNT,
            key_sha256=hashlib.sha256(KEY.encode()).hexdigest(),
            aliases="\n".join(f"  {load.name}:\n    try: fake/{load.name}" for load in LOADS),
        )
    )
    return config
