"""Errors.  The type says what the caller may do next.

`message` is for the client and says what to do; `detail` is for the log and never leaves the machine.
"""

from __future__ import annotations


class RouterError(Exception):
    """Anything that may end a call.

    Attributes:
        status: HTTP status if nothing was sent yet.
        kind: OpenAI's `error.type`.
        code: OpenAI's `error.code`, one of those listed in docs/api.md.
        param: the request field at fault, if one is.
        retry_after_s: seconds after which asking again makes sense.
    """

    status = 500
    kind = "server_error"
    code = "server_error"

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


class CallRefused(RouterError):
    """The call itself is at fault: no other step would do better."""

    status = 400
    kind = "invalid_request_error"
    code = "invalid_request_error"


class UnsupportedParameter(CallRefused):
    """A field asks for what the chosen model or this router cannot do."""

    code = "unsupported_parameter"


class ContextOverflow(CallRefused):
    """Prompt and answer do not fit into the model's context."""

    code = "context_length_exceeded"


class ContentRefused(CallRefused):
    """A backend's content filter refused the call."""

    code = "content_filter"


class NotAuthenticated(RouterError):
    """No key, or not one of ours."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class NotPermitted(RouterError):
    """Known or not, the caller may not do this: host, origin or policy forbids it."""

    status = 403
    kind = "permission_error"
    code = "permission_denied"


class MisdirectedHost(NotPermitted):
    """The Host header names another machine: DNS rebinding, or a missing allow-list entry."""

    status = 421
    code = "host_not_allowed"


class NotFound(RouterError):
    """No such thing."""

    status = 404
    kind = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    """No alias of this name."""

    code = "model_not_found"


class MethodNotAllowed(RouterError):
    """The address exists, the method does not."""

    status = 405
    kind = "invalid_request_error"
    code = "method_not_allowed"


class BodyTimeout(RouterError):
    """The request's body did not arrive in time."""

    status = 408
    kind = "invalid_request_error"
    code = "request_timeout"


class BodyTooLarge(RouterError):
    """The request's body is over the limit."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(RouterError):
    """The body is not plain JSON."""

    status = 415
    kind = "invalid_request_error"
    code = "unsupported_media_type"


class UploadsFull(RouterError):
    """Other calls' files fill the memory that is meant for them."""

    status = 503
    code = "uploads_full"


class PolicyRefused(RouterError):
    """A rule of router.yaml refuses the call."""

    status = 403
    kind = "permission_error"
    code = "refused_by_policy"


class NoBackend(RouterError):
    """The plan is empty: everything that could serve the call was left out, and why is said."""

    status = 503
    code = "no_backend_available"


class NotInstalled(RouterError):
    """Whoever could serve the call needs an optional extra that is not installed."""

    status = 501
    code = "engine_not_installed"


class BackendError(RouterError):
    """A step failed before its first event: the next step may try."""

    status = 502
    code = "backend_error"


class BackendUnavailable(BackendError):
    """Nobody there: connection refused or reset, no such host, dead or loading worker."""

    status = 503
    code = "backend_unavailable"


class BackendUnreachable(BackendUnavailable):
    """No connection could be made: no such name, no route, nobody listens.  Says something of the network.

    Attributes:
        offline: it says so of every network: this machine has none, or cannot resolve names.
    """

    offline = False


class Benched(BackendUnavailable):
    """The step is left alone: its breaker is open, it was told when to come back, or its model cannot be
    loaded until something is changed."""


class BackendTimeout(BackendError):
    """The backend was silent longer than the policy allows."""

    status = 504
    code = "backend_timeout"


class ConnectTimeout(BackendTimeout, BackendUnreachable):
    """No connection in time: a timeout for the client, a sign of the network for us."""


class BackendBusy(BackendError):
    """Out of capacity or over a rate limit, for a short while."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"


class QueueFull(BackendBusy):
    """Every place of a model on this machine is taken, and as many calls wait as may."""


class QuotaExhausted(BackendError):
    """Today's allowance is spent; retrying before it is renewed is pointless."""

    status = 429
    kind = "insufficient_quota"
    code = "insufficient_quota"


class BackendMisconfigured(BackendError):
    """The backend refused our credentials, account or model name: router.yaml needs a look."""

    status = 502
    code = "backend_misconfigured"


class AccountRefused(BackendMisconfigured):
    """The backend refused our token or account: none of its models will answer."""


class Inexpressible(BackendError):
    """The backend has no words for something in the call.  Nobody failed; another backend may have them."""

    status = 400
    kind = "invalid_request_error"
    code = "unsupported_parameter"


class NotAble(Inexpressible):
    """The model cannot do what the call needs, which only showed once it was loaded."""


class RouterLoop(Inexpressible):
    """Routers name each other as backends, and the call came back to the first."""

    status = 502
    kind = "server_error"
    code = "router_loop"


class RedactionImpossible(Inexpressible):
    """The call holds what cannot be searched or replaced, and the policy lets it leave only redacted."""

    status = 503
    kind = "server_error"
    code = "redaction_impossible"


class PrefillRefused(BackendError):
    """The backend does not go on from a text that is given to it: the step may start anew."""


class StreamBroken(RouterError):
    """A step failed after its first event.  The client has seen part of the answer."""

    status = 502
    code = "stream_broken"


class BrokenByCall(StreamBroken):
    """The call turned out to be at fault in the middle of its answer: no other step would do better.

    Attributes:
        refusal: what it would have been before the first event.
    """

    status = 400
    kind = "invalid_request_error"
    code = "invalid_request_error"

    def __init__(self, refusal: RouterError) -> None:
        super().__init__(refusal.message, detail=refusal.detail, param=refusal.param, code=refusal.code)
        self.args = (refusal,)  # what a copy is made from
        self.refusal = refusal
