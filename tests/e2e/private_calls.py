"""What marks a call as private, one label of each kind, and calls that carry it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router_process import Router
from wire_client import CHAT, COMPLETIONS, Answer, ask, chat_body, completion_body

SAID = "count to 3"
KEYS = ("ann", "bob", "paul", "petra")  # whose key is the name itself, twice
RULES = """
  - { name: keep_marked_calls, when: { header: { x-private: "yes" } }, local_only: true }
  - { name: keep_the_diary, when: { alias: [native-first] }, local_only: true }
  - { name: keep_what_ann_asks, when: { key: [ann] }, local_only: true }
  - { name: keep_what_paul_completes, when: { key: [paul], path: [/v1/completions] }, local_only: true }
  - { name: keep_what_petra_chats, when: { key: [petra], path: [/v1/chat/completions] }, local_only: true }
  - { name: keep_the_project, when: { text: ["(?i)project bluebird"] }, local_only: true }
  - { name: keep_findings, when: { finds: [secrets, pii] }, local_only: true }
  - { name: keep_keys, when: { files: ["*.pem"] }, local_only: true }
  - { name: keep_german, when: { language: [de] }, local_only: true }
"""
SERVER = "  keys:\n" + "".join(
    f"    - {{ name: {name}, sha256: {hashlib.sha256((2 * name).encode()).hexdigest()} }}\n" for name in KEYS
)
OPERATIONS = [(path, stream) for path in (CHAT, COMPLETIONS) for stream in (False, True)]


@dataclass(frozen=True)
class Label:
    """How a call is marked; by default it is not.  `paths`: where that makes it private."""

    said: str = SAID
    alias: str = "cloud-first"
    key: str = "bob"
    headers: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = (CHAT, COMPLETIONS)


PUBLIC = Label()
LABELS = {
    "header": Label(headers={"x-private": "yes"}),
    "alias": Label(alias="native-first"),
    "key": Label(key="ann"),
    "completion path": Label(key="paul", paths=(COMPLETIONS,)),
    "chat path": Label(key="petra", paths=(CHAT,)),
    "text": Label("What becomes of Project Bluebird? count to 3"),
    "secret": Label("deploy with AKIA2E0A8F3B244C9986 and count to 3"),
    "mail": Label("write to jane.roe@example.com, then count to 3"),
    "card": Label("pay with 4111 1111 1111 1111, then count to 3"),
    "file": Label("open certs/server.pem and count to 3"),
    "language": Label("Kannst du mir bitte sagen, welche Unterlagen ich für die Steuererklärung brauche?"),
}


def keyed(key: str) -> dict[str, str]:
    """The header that proves whose call it is."""
    return {"authorization": f"Bearer {2 * key}"}


async def say(
    router: Router,
    label: Label,
    *,
    path: str = CHAT,
    stream: bool = False,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> Answer:
    """Make a call that is marked so."""
    body = chat_body if path == CHAT else completion_body
    content = body(label.alias, label.said, stream=stream, **{"max_tokens": 3, **fields})
    return await ask(router, content, path, {**keyed(label.key), **label.headers, **(headers or {})})
