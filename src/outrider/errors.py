"""Every error that Outrider raises on purpose, as one tree.

OutriderError
├── RequestError                    4xx, the caller's; never retried
│   ├── InvalidRequest              400  param="messages[2].content"
│   │   ├── UnsupportedParameter    400  known to the wire, not offered here
│   │   └── ContextLengthExceeded   400  num_prompt_tokens, max_model_len
│   │       └── InputTooLong        400  the same for a text to embed
│   ├── ModelNotFound               404
│   ├── NotFound                    404  a file or batch that isn't there, or is another key's
│   ├── Conflict                    409  what is to be changed has changed meanwhile
│   ├── PayloadTooLarge             413
│   ├── RequestTimeout              408  the client stopped sending its body
│   ├── Unauthorized                401  no key, or none that is known and valid
│   ├── PaymentRequired             402  the key's budget is used up
│   ├── Forbidden                   403  the key may not do this
│   ├── RateLimited                 429  the key's requests or tokens per minute; retry_after_s
│   └── NoEndpoints                 404  no provider of the model does what the request asks for
├── EngineError
│   ├── EngineOverloaded            503  retryable; queue full, restarting or draining
│   ├── EngineFailed                500  retryable; the engine process died or a step raised
│   └── ProviderError               502  retryable; a remote provider failed: cut, refused, wrong
│       ├── ProviderTimeout         504  it didn't connect, begin or go on in time
│       ├── ProviderRateLimited     429  retry_after_s
│       ├── ProviderUnavailable     503  nobody was asked: all have failed lately; retry_after_s
│       └── ProviderDenied          502  it doesn't take our key; nobody's request's fault
├── StorageError                    503  the data folder is full, read-only, in use or broken
└── ConfigError                     exit code 2 at start-up, never at run time
    ├── CheckpointError             a model file that can't be read or doesn't fit together
    └── StoreError                  a model that can't be fetched, found or written

A class fixes its HTTP `status`, its stable `code` (also a metric label) and whether it is
`retryable` (another provider could succeed). Messages are one line: what happened, the value,
what to do.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class FailedAttempt(NamedTuple):
    """What came of asking one host."""

    provider: str  # as people read it
    code: str
    status: int  # of the host's answer; 0 without one
    message: str = ""


class OutriderError(Exception):
    """Base of the tree; catch this to catch everything Outrider raises on purpose."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    # Of all hosts that were chosen before the caller got this error; the last one is its own.
    failed: tuple[FailedAttempt, ...] = ()

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(OutriderError):
    """The caller's request can't be served as it is; `param` is the path of the field."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(RequestError):
    """A field is missing, of the wrong type or out of range."""


class UnsupportedParameter(InvalidRequest):
    """The wire documents this field but Outrider doesn't offer it."""

    code = "unsupported_parameter"
    was_sent = True  # False: the wire of the host that was chosen can't carry it


class ContextLengthExceeded(InvalidRequest):
    """The prompt alone, or with `max_tokens`, is longer than the model's context."""

    code = "context_length_exceeded"

    def __init__(self, num_prompt_tokens: int, max_model_len: int, param: str | None) -> None:
        super().__init__(
            f"prompt has {num_prompt_tokens:,} tokens but max_model_len is {max_model_len:,} and "
            "at least one token must be left for the answer; shorten the prompt or start with a "
            "larger --max-model-len",
            param,
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.max_model_len = max_model_len


class InputTooLong(ContextLengthExceeded):
    """A text to embed is longer than its model's context; nothing is cut off silently."""

    def __init__(self, num_prompt_tokens: int, max_model_len: int, param: str | None) -> None:
        InvalidRequest.__init__(
            self,
            f"the text has {num_prompt_tokens:,} tokens, [CLS] and [SEP] included, but the "
            f"embedding model takes {max_model_len:,}; cut it into shorter texts",
            param,
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.max_model_len = max_model_len


class ModelNotFound(RequestError):
    """No served model has this name."""

    status = 404
    code = "model_not_found"


class NotFound(RequestError):
    """There is no such file or batch, or it belongs to another key."""

    status = 404
    code = "not_found"


class Conflict(RequestError):
    """What is to be changed isn't any more what the change was made from."""

    status = 409
    code = "conflict"


class PayloadTooLarge(RequestError):
    """The request body, or a file, is longer than its setting allows."""

    status = 413
    code = "payload_too_large"


class RequestTimeout(RequestError):
    """The request's body did not arrive in time."""

    status = 408
    code = "request_timeout"


class Unauthorized(RequestError):
    """There is no key with the request, or none that is known, enabled and not expired."""

    status = 401
    code = "invalid_api_key"


class PaymentRequired(RequestError):
    """What the request may cost is more than is left of the key's budget."""

    status = 402
    code = "insufficient_quota"
    is_momentary = False  # True: it would fit if no other request of the key were running


class Forbidden(RequestError):
    """The key is of the wrong kind, or isn't allowed this model."""

    status = 403
    code = "permission_denied"


class RateLimited(RequestError):
    """The key has sent more requests or tokens than it may in a minute."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        retry_after_s: int = 1,
        *,
        limit: int = 0,
        remaining: int = 0,
        reset_s: int = 0,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit  # of requests or tokens in a minute; 0: nobody said
        self.remaining = remaining
        self.reset_s = reset_s  # when to try again, in Unix time


class NoEndpoints(RequestError):
    """Providers have the model, but none does all that the request asks for."""

    status = 404
    code = "no_endpoints"


class EngineError(OutriderError):
    """The engine could not do its part; the request itself was fine."""

    retryable = True


class EngineOverloaded(EngineError):
    """The engine takes no more requests now: its queue is full, it restarts or it drains."""

    status = 503
    code = "engine_overloaded"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineFailed(EngineError):
    """The engine process died, or a step raised, while this request was running."""

    code = "engine_failed"


class ProviderError(EngineError):
    """A remote provider failed: it can't be reached, broke off, or answered what isn't an answer.

    `upstream_status` is its HTTP status, 0 if there was none.
    """

    status = 502
    code = "provider_unavailable"

    def __init__(self, message: str, upstream_status: int = 0) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status


class ProviderTimeout(ProviderError):
    """A remote provider didn't connect, begin or go on in time."""

    status = 504
    code = "provider_timeout"


class ProviderRateLimited(ProviderError):
    """A remote provider takes no more requests for now."""

    status = 429
    code = "provider_rate_limited"

    def __init__(self, message: str, retry_after_s: float | None, upstream_status: int = 0) -> None:
        super().__init__(message, upstream_status)
        self.retry_after_s = retry_after_s  # None: it didn't say


class ProviderUnavailable(ProviderError):
    """Nobody was asked: every provider of the model has failed lately and is left alone."""

    status = 503
    code = "providers_unavailable"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ProviderDenied(ProviderError):
    """A remote provider doesn't take our key (401, 402, 403): the operator has to act."""

    code = "provider_credentials"


class StorageError(OutriderError):
    """The data folder, or the database in it, can't be read or written."""

    status = 503
    code = "storage_unavailable"


class ConfigError(OutriderError):
    """Something the operator has to change; the command line exits with code 2."""

    code = "config_error"


class CheckpointError(ConfigError):
    """A model file is truncated, foreign, hostile or inconsistent."""

    code = "checkpoint_error"


class StoreError(ConfigError):
    """A model can't be fetched, found, written or removed."""

    code = "store_error"
