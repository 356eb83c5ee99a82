"""The router.yaml that tests with a real service use, and the model files beside it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from router_process import free_port

CLOUD_MODEL = "@cf/meta/llama-3.2-1b-instruct"
PATIENT = "{ connect: 5s, load: 60s, first_token: 120s, between_tokens: 60s, total: 300s }"
ALIASES = """
aliases:
  local-only: { try: local/smollm2, timeouts: PATIENT }
  local-first: { try: [local/smollm2, cloudflare/MODEL] }
  cloud-only: { try: cloudflare/MODEL }
  native-only: { try: native/MODEL }
  cloud-first: { try: [{ step: cloudflare/MODEL, timeouts: WAITS }, local/smollm2] }
  native-first: { try: [{ step: native/MODEL, timeouts: WAITS }, local/smollm2] }
  cloud-then-native:
    try: [{ step: cloudflare/MODEL, timeouts: WAITS }, { step: native/MODEL, timeouts: WAITS }]
  native-then-cloud:
    try: [{ step: native/MODEL, timeouts: WAITS }, { step: cloudflare/MODEL, timeouts: WAITS }]
  closed-then-local: { try: [closed/MODEL, local/smollm2] }
  closed-then-cloud: { try: [closed/MODEL, cloudflare/MODEL] }
  all-closed: { try: closed/MODEL }
"""


def place_model(folder: Path, model_path: Path) -> Path:
    """Link the model into `folder` beside a manifest that describes it; gives the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    linked = folder / model_path.name
    try:
        linked.hardlink_to(model_path)
    except OSError:  # another file system
        linked.symlink_to(model_path)
    with model_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = os.stat(model_path).st_size  # noqa: PTH116 - read beside the digest
    manifest = folder / "manifest.yaml"
    manifest.write_text(
        f"models:\n  smol:\n    file: {linked.name}\n    sha256: {digest}\n    size_bytes: {size_bytes}\n"
    )
    return manifest


def policy(
    manifest: Path,
    cloud_url: str,
    *,
    listen: str = "127.0.0.1:0",
    server: str = "",
    parallel: int = 2,
    queue: int = 64,
    preload: bool = True,
    prefill_chunk: int = 64,
    first_token: str = "10s",  # noqa: S107 - a duration
    between_tokens: str = "10s",
    drain: str = "10s",
    treatment: str = "on_break: error, retries: 0",
) -> str:
    """A router.yaml with a small local model, a cloud in both of its forms, and one that is not there.

    `treatment` holds for every call: one attempt a step and no continuation, so that each can be looked at.
    `first_token` and `between_tokens` are those of the cloud's step in `cloud-first` and `native-first`.
    """
    account = "account_id: { env: CLOUDFLARE_ACCOUNT_ID }\n    token: { env: CLOUDFLARE_API_TOKEN }"
    waits = f"{{ connect: 250ms, first_token: {first_token}, between_tokens: {between_tokens} }}"
    return f"""
rules:
  - {{ name: treat_all_alike, {treatment} }}
server:
  listen: {listen}
  drain: {drain}
{server}
manifest: {manifest}
timeouts: {{ connect: 5s, load: 20s, first_token: 30s, between_tokens: 20s, total: 60s }}
backends:
  local:
    type: local
    models:
      smollm2:
        weights: smol
        context: 1024
        threads: 1
        parallel: {parallel}
        queue: {queue}
        prefill_chunk: {prefill_chunk}
        preload: {str(preload).lower()}
  cloudflare:
    type: workers_ai
    base_url: {cloud_url}
    minute_limits: false
    default_max_tokens: 2048
    {account}
  native:
    type: workers_ai
    base_url: {cloud_url}
    minute_limits: false
    chat_endpoint: run
    default_max_tokens: 2048
    {account}
  closed:
    type: workers_ai
    base_url: http://127.0.0.1:{free_port()}/client/v4
    minute_limits: false
    {account}
{ALIASES.replace("MODEL", CLOUD_MODEL).replace("WAITS", waits).replace("PATIENT", PATIENT)}"""
