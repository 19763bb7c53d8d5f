"""Every setting of Outrider, in one table.

A row gives the default, the command-line flag, the `OUTRIDER_*` variable, the key in outrider.toml,
the help text and the row in docs/settings.md. Where values come from is `config`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

Value = str | int | bool | tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One setting; its type is that of its default, and an int lies in `minimum .. maximum`.

    A list is a flag that may be repeated and a variable with commas; `item` shows what is in it.
    """

    name: str
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**53
    item: str = ""

    @property
    def default_text(self) -> str:
        """The default as people write it."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return "none" if self.default == () else str(self.default)

    @property
    def flag(self) -> str:
        """The command-line flag, as in `--max-num-seqs`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable, as in `OUTRIDER_MAX_NUM_SEQS`."""
        return ENV_PREFIX + self.name.upper()

    @property
    def accepted(self) -> str:
        """What a value must be, in words that end an error message."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, tuple):
            return f"a list of {self.item}"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if isinstance(self.default, int):
            if self.maximum == 2**53:
                return f"a whole number of at least {self.minimum}"
            return f"a whole number from {self.minimum} to {self.maximum}"
        return "a text that is not empty"


DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_EMBEDDING_MODEL = "all-minilm-l6-v2"
NO_MODEL = "none"
DEFAULT_HOME = "~/.cache/outrider"
ENV_PREFIX = "OUTRIDER_"
CONFIG_FILE = "outrider.toml"

ENGINE_SETTINGS = (
    Setting(
        "model",
        DEFAULT_MODEL,
        "Model name, hf: name, .gguf file or safetensors folder; none serves providers alone",
    ),
    Setting(
        "weights",
        "auto",
        "Format of the packed weights; auto keeps the precision of the source",
        choices=("auto", "f32", "bf16", "q8", "q4"),
    ),
    Setting(
        "kv",
        "auto",
        "Format of the KV cache; auto is f32 with f32 weights and bf16 otherwise",
        choices=("auto", "f32", "bf16", "int8"),
    ),
    Setting(
        "activations",
        "int8",
        "What activations are rounded to where they meet quantised weights; bf16 is slower",
        choices=("int8", "bf16"),
    ),
    Setting("kv_memory_mib", 0, "Memory for the KV cache in MiB; 0 chooses", maximum=1 << 30),
    Setting("max_model_len", 0, "Longest sequence in tokens; 0 is the model's own"),
    Setting("max_num_seqs", 32, "Sequences decoded together in one step", minimum=1, maximum=4096),
    Setting(
        "max_num_batched_tokens",
        512,
        "Tokens computed in one step; longer prompts are computed in pieces",
        minimum=16,
        maximum=65536,
    ),
    Setting(
        "max_step_ms",
        60,
        "Longest step in ms while others decode; prompts are cut to fit; 0 is no bound",
        maximum=3_600_000,
    ),
    Setting("threads", 0, "Compute threads; 0 is one per available core", maximum=1024),
    Setting(
        "isa",
        "auto",
        "Instruction set of the kernels; auto is the best this machine has",
        choices=("auto", "avx512", "avx2", "scalar"),
    ),
    Setting("prefix_cache", True, "Reuse computed blocks of equal prompt beginnings"),
    Setting(
        "speculation",
        "auto",
        "Compute guesses of the next tokens along where that is faster; the tokens stay the same",
        choices=("auto", "off"),
    ),
    Setting(
        "image_cache_mib",
        1024,
        "Memory for encoded images in MiB; those of one prompt must fit",
        minimum=1,
        maximum=1 << 30,
    ),
)

SERVER_SETTINGS = (
    Setting("host", "127.0.0.1", "Address to listen on"),
    Setting("port", 8000, "Port to listen on; 0 chooses a free one", maximum=65535),
    Setting(
        "alias", (), "Further names for served models, as clients send them", item="NAME=MODEL"
    ),
    Setting(
        "auth",
        "auto",
        "Whether requests need a key; auto: if host isn't a loopback address",
        choices=("auto", "on", "off"),
    ),
    Setting(
        "embedding_model",
        "auto",
        "Embedding model beside the chat model; auto is all-minilm-l6-v2 if it is pulled, or none",
    ),
    Setting("local_first", True, "Ask this server's own engine before other hosts of a model"),
    Setting("functions", False, "Run the code of Workers AI's functions, each in an isolate"),
    Setting("image_hosts", (), "Hosts that images of requests may be fetched from", item="HOST"),
    Setting(
        "workers_ai_tool_calls",
        "nested",
        "Form of tool calls on Workers AI's wire: nested with text, or flat with objects",
        choices=("nested", "flat"),
    ),
    Setting("max_queue", 256, "Requests accepted beyond those running; more get a 503"),
    Setting("max_connections", 1000, "Connections at a time; more get a 503", minimum=1),
    Setting("max_request_bytes", 16 << 20, "Largest request body in bytes", minimum=1024),
    Setting(
        "body_timeout_s",
        30,
        "Seconds that a client may take to send its body",
        minimum=1,
        maximum=86_400,
    ),
    Setting(
        "data_dir",
        "auto",
        "Folder of files and batches; auto is outrider in $XDG_DATA_HOME or ~/.local/share",
    ),
    Setting(
        "database_url",
        "none",
        "PostgreSQL for keys and ledger, postgresql://USER@HOST/NAME; none is the data folder",
    ),
    Setting(
        "keep_contents_days",
        30,
        "Days that prompts and answers are kept, for keys that ask for it",
        minimum=1,
        maximum=3650,
    ),
    Setting(
        "keep_requests_days",
        0,
        "Days that the ledger's rows are kept, 0 is for ever; sums by hour and day stay",
        maximum=3650,
    ),
    Setting("max_file_bytes", 200 << 20, "Largest uploaded file in bytes", minimum=1024),
    Setting("max_files", 10_000, "Files kept at the same time; more are refused", minimum=1),
    Setting("max_batch_requests", 50_000, "Requests in one batch", minimum=1, maximum=10**6),
    Setting("max_batches", 100, "Batches that haven't ended; more are refused", minimum=1),
    Setting(
        "keep_results_h",
        24,
        "Hours that results of a batch are kept, unless it asks for another time",
        minimum=1,
        maximum=8760,
    ),
    Setting("drain_timeout_s", 30, "Seconds that running requests get at SIGTERM", maximum=86_400),
    Setting(
        "log_level",
        "info",
        "Least important log lines shown",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting(
        "tracing",
        "off",
        "Where spans of requests go; otlp is a collector that OTEL_* variables name",
        choices=("off", "otlp"),
    ),
)

STORE_SETTINGS = (Setting("home", DEFAULT_HOME, "Folder of pulled models and packed weights"),)

SECRETS = frozenset({"database_url"})  # may hold a password

SETTINGS = ENGINE_SETTINGS + SERVER_SETTINGS + STORE_SETTINGS
