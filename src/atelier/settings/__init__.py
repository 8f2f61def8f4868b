"""The only reader of the environment. ``cli`` makes one ``Settings``; ``app`` passes values on."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, quote

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from atelier.errors import ConfigurationError
from atelier.settings.addresses import address_of, bracketed, password_of
from atelier.settings.contradictions import contradictions
from atelier.settings.processes import ProcessSettings
from atelier.settings.sharing import SharingSettings
from atelier.settings.storage import StoragePlace, StorageSettings, storage_problems

UrlList = Annotated[tuple[str, ...], NoDecode]


class Settings(StorageSettings, SharingSettings, ProcessSettings):
    """Everything that can be set, with its default. Names are environment variables as written.

    The first name is the native one; the others are understood because callers of the systems
    that atelier replaces have them in their deployments.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    app_name: str = Field(
        "atelier",
        min_length=1,
        validation_alias="APP_NAME",
        description="What the service calls itself in its documents and answers.",
    )
    app_version: str | None = Field(
        None,
        validation_alias="APP_VERSION",
        description="The version that it tells; default: that of atelier.",
    )
    host: str = Field("0.0.0.0", validation_alias="HOST", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, validation_alias="PORT", description="Port.")
    data_dir: Path = Field(
        Path("data"),
        validation_alias="ATELIER_DATA_DIR",
        description="Folder for the embedded database, stored pictures and the embedded engine.",
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="sqlite:///FILE, postgresql://... or mysql://...; "
        "default: atelier.db in the data folder.",
    )
    comfyui_urls: UrlList = Field(
        (),
        validation_alias=AliasChoices("COMFYUI_URLS", "COMFYUI_BASE_URL", "COMFYUI_URL"),
        description="ComfyUI instances, comma-separated.",
    )
    comfyui_host: str | None = Field(
        None,
        validation_alias="COMFYUI_HOST",
        description="One ComfyUI instance by its host name, or by its URL.",
    )
    comfyui_port: int = Field(
        8188,
        ge=1,
        le=65535,
        validation_alias="COMFYUI_PORT",
        description="The port of COMFYUI_HOST where that is a host name.",
    )
    comfyui_client_id: str = Field(
        "atelier",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        validation_alias="COMFYUI_CLIENT_ID",
        description="What our WebSocket client ids at ComfyUI begin with.",
    )
    embedded_engine: Literal["auto", "always", "never"] = Field(
        "auto",
        validation_alias="ATELIER_EMBEDDED_ENGINE",
        description="auto: only when no ComfyUI is configured or reachable at the start.",
    )
    database_host: str | None = Field(
        None, validation_alias="DB_HOST", description="Host of a MySQL or MariaDB server."
    )
    database_port: int = Field(
        3306, ge=1, le=65535, validation_alias="DB_PORT", description="Port of DB_HOST."
    )
    database_user: str = Field("root", validation_alias="DB_USER", description="User at DB_HOST.")
    database_password: SecretStr | None = Field(
        None, validation_alias="DB_PASSWORD", description="Password of DB_USER."
    )
    database_name: str = Field(
        "atelier", validation_alias="DB_NAME", description="Database at DB_HOST."
    )
    redis_address: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="redis://[:PASSWORD@]HOST[:PORT][/NUMBER]; carries "
        "wake-ups, events and counts between processes; no job depends on it.",
    )
    redis_host: str | None = Field(
        None, validation_alias="REDIS_HOST", description="Host of a Redis server."
    )
    redis_port: int = Field(
        6379, ge=1, le=65535, validation_alias="REDIS_PORT", description="Port of REDIS_HOST."
    )
    redis_password: SecretStr | None = Field(
        None, validation_alias="REDIS_PASSWORD", description="Password of REDIS_HOST."
    )
    public_url: str | None = Field(
        None,
        validation_alias="ATELIER_PUBLIC_URL",
        description="How callers reach the service, for the addresses in its answers; "
        "default: taken from each request.",
    )
    fetch_allow: UrlList = Field(
        (),
        validation_alias="ATELIER_FETCH_ALLOW",
        description="Hosts, host:port, addresses or networks (CIDR) inside your network that "
        "picture and webhook URLs may point at, comma-separated.",
    )
    spool_mb: int = Field(
        2048,
        ge=1,
        validation_alias="ATELIER_SPOOL_MB",
        description="Size of the spool in the data folder, where results wait while the store "
        "is away.",
    )
    webhook_secret: SecretStr | None = Field(
        None,
        validation_alias="ATELIER_WEBHOOK_SECRET",
        description="whsec_ and 24 to 64 random bytes in base64, which sign webhooks; "
        "default: made once and kept in the database (`atelier webhooks secret` shows it).",
    )
    download_cache_mb: int = Field(
        0,
        ge=0,
        validation_alias="ATELIER_DOWNLOAD_CACHE_MB",
        description="Size of the cache of downloaded pictures; 0 turns it off.",
    )
    workflows_dir: Path | None = Field(
        None,
        validation_alias="ATELIER_WORKFLOWS_DIR",
        description="Folder with your own workflows and styles, beside the shipped ones; "
        "changes are taken over without a restart.",
    )
    comfyui_root: Path | None = Field(
        None,
        validation_alias="COMFYUI_ROOT",
        description="Folder of a ComfyUI on this machine; its `input` and `output` are in it.",
    )
    comfyui_input_dir: Path | None = Field(
        None,
        validation_alias="COMFYUI_INPUT_DIR",
        description="Input folder of a ComfyUI on this machine: what we put there is swept.",
    )
    comfyui_output_dir: Path | None = Field(
        None,
        validation_alias="COMFYUI_OUTPUT_DIR",
        description="Output folder of a ComfyUI on this machine; `atelier doctor` looks at it.",
    )
    max_concurrent_tasks: int = Field(
        10,
        ge=1,
        validation_alias="MAX_CONCURRENT_TASKS",
        description="Jobs that one worker holds at once; "
        "left out, it grows with the number of instances.",
    )
    task_cleanup_hours: float = Field(
        24,
        gt=0,
        validation_alias="TASK_CLEANUP_HOURS",
        description="Ended jobs of the transform, tasks and workflow service dialects are swept "
        "after so many hours.",
    )
    input_hours: float = Field(
        24,
        gt=0,
        validation_alias="ATELIER_INPUT_HOURS",
        description="Uploaded pictures are swept after so many hours, unless a job needs them.",
    )
    output_days: float = Field(
        30,
        gt=0,
        validation_alias="ATELIER_OUTPUT_DAYS",
        description="What jobs made is swept after so many days; their records stay.",
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        validation_alias="ATELIER_REQUESTS_PER_MINUTE",
        description="Submissions a minute of one user, or of one address where no user is named.",
    )
    all_requests_per_minute: int | None = Field(
        None,
        ge=1,
        validation_alias="ATELIER_ALL_REQUESTS_PER_MINUTE",
        description="Submissions a minute of all users together.",
    )
    job_timeout_seconds: float = Field(
        1800,
        gt=0,
        validation_alias=AliasChoices("ATELIER_JOB_TIMEOUT_SECONDS", "COMFYUI_TIMEOUT"),
        description="Longest run of one attempt at an instance.",
    )
    grace_seconds: float = Field(
        10,
        ge=0,
        validation_alias="ATELIER_GRACE_SECONDS",
        description="How long a worker that is told to stop lets its running jobs finish.",
    )
    app_env: str = Field(
        "production",
        max_length=64,
        validation_alias="APP_ENV",
        description="Name of this deployment, shown by /api/status.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Least severe level that is logged."
    )
    log_format: Literal["plain", "json"] = Field(
        "plain", validation_alias="ATELIER_LOG_FORMAT", description="plain or json."
    )
    log_dir: str | None = Field(
        None,
        validation_alias="ATELIER_LOG_DIR",
        description="Folder of the log files beside the console, `none` for no files; "
        "default: logs in the data folder.",
    )
    debug: bool = Field(False, validation_alias="DEBUG", description="Sets the log level to DEBUG.")
    server_url: str | None = Field(
        None,
        validation_alias=AliasChoices("ATELIER_URL", "TASK_API_URL"),
        description="The running service, for `atelier run` and for the addresses in webhooks "
        "where ATELIER_PUBLIC_URL is not set; default: this machine's PORT.",
    )

    @field_validator("comfyui_urls", "fetch_allow", mode="before")
    @classmethod
    def split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("comfyui_urls")
    @classmethod
    def need_http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not an http:// or https:// address")
        return tuple(dict.fromkeys(url.rstrip("/") for url in value))

    @model_validator(mode="after")
    def join_host_and_port(self) -> Self:
        """Where a host is named, its address is the one of ``comfyui_urls``."""
        if self.comfyui_host is None:
            return self
        url = address_of(self.comfyui_host, self.comfyui_port)
        if not self.comfyui_urls:
            object.__setattr__(self, "comfyui_urls", (url,))  # frozen for everybody else
        elif url not in self.comfyui_urls:
            raise ValueError(
                f"COMFYUI_HOST, which means {url}, and {_given('comfyui_urls')}="
                f"{','.join(self.comfyui_urls)} contradict each other: keep one of them"
            )
        return self

    @field_validator("log_level", mode="before")
    @classmethod
    def upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def database(self) -> str:
        """The database's URL, the embedded one where none is set."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        if self.database_host is not None:
            password = self.database_password
            user = quote(self.database_user, safe="")
            if password is not None:
                user += f":{quote(password.get_secret_value(), safe='')}"
            host = bracketed(self.database_host)
            return f"mysql://{user}@{host}:{self.database_port}/{self.database_name}"
        return f"sqlite:///{(self.data_dir / 'atelier.db').absolute()}"

    @property
    def redis_url(self) -> str | None:
        """Where Redis is; None: nowhere."""
        if self.redis_address is not None:
            return self.redis_address.get_secret_value()
        if self.redis_host is None:
            return None
        password = self.redis_password
        login = f":{quote(password.get_secret_value(), safe='')}@" if password else ""
        return f"redis://{login}{bracketed(self.redis_host)}:{self.redis_port}"

    @property
    def comfyui_input_folder(self) -> Path | None:
        """The input folder of a ComfyUI on this machine, where one is named."""
        return self.comfyui_input_dir or (self.comfyui_root and self.comfyui_root / "input")

    @property
    def comfyui_output_folder(self) -> Path | None:
        return self.comfyui_output_dir or (self.comfyui_root and self.comfyui_root / "output")

    @property
    def storage(self) -> StoragePlace:
        """Where pictures are kept."""
        return self.storage_place(self._storage_folder)

    @property
    def companion_place(self) -> StoragePlace:
        """Where is kept what Cloudflare Images doesn't take."""
        return self.companion_place_of(self._storage_folder)

    @property
    def _storage_folder(self) -> str:
        return str((self.data_dir / "storage").absolute())

    @property
    def log_folder(self) -> Path | None:
        """Where log files go; None: nowhere."""
        if self.log_dir is None:
            return self.data_dir / "logs"
        return None if self.log_dir.lower() == "none" else Path(self.log_dir)

    @property
    def secrets(self) -> frozenset[str]:
        """All that must never be shown, such as passwords and keys, also those within URLs."""
        values = [value for _, value in self if isinstance(value, SecretStr)]
        found = {value.get_secret_value() for value in values}
        storage = self.storage_url or ""
        addresses = [*found, *self.comfyui_urls, storage]
        options = parse_qsl(storage.partition("?")[2])
        found |= {value for name, value in options if name.rpartition("_")[2] in ("key", "token")}
        return frozenset(found | {password_of(address) for address in addresses} - {""})

    @property
    def secret_names(self) -> frozenset[str]:
        """The variables whose values are secrets of ours, which no process of others needs."""
        fields = Settings.model_fields
        secret = [name for name, value in self if isinstance(value, SecretStr)]
        named = {name for field in secret for name in _names(field) if field in fields}
        # Those of cloud vendors are meant for every program of this user.
        return frozenset(name for name in named if not name.startswith("AWS_"))

    @property
    def seats_are_fixed(self) -> bool:
        """True when somebody chose MAX_CONCURRENT_TASKS."""
        return "max_concurrent_tasks" in self.model_fields_set


def _names(field: str) -> list[str]:
    """The variables that set ``field``, the native one first."""
    alias = Settings.model_fields[field].validation_alias
    return [str(name) for name in (alias.choices if isinstance(alias, AliasChoices) else [alias])]


def _given(field: str) -> str:
    """The variable of those of ``field`` that somebody has set."""
    names = _names(field)
    return next((name for name in names if os.environ.get(name)), names[0])


def _variable(location: tuple[int | str, ...]) -> str:
    name = ".".join(str(part) for part in location).upper()
    fields = (field for field in Settings.model_fields if name in _names(field))
    return next((_given(field) for field in fields), name)


def load_settings(**overrides: object) -> Settings:
    """Read the environment; ``overrides`` (by field name) come from the command line.

    Raises ConfigurationError that names each variable that can't be understood.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if "comfyui_urls" in given:
        given.setdefault("comfyui_host", None)
    environment = {name.upper(): value for name, value in os.environ.items() if value}
    for field in given:  # the command line goes before all of them
        for name in _names(field):
            environment.pop(name, None)
    problems = list(contradictions(environment, map(_names, Settings.model_fields)))
    problems += storage_problems(environment)
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems += [
            ": ".join(filter(None, (_variable(problem["loc"]), problem["msg"])))
            for problem in error.errors()
        ]
    if problems:
        raise ConfigurationError(
            f"The configuration can't be used. {'; '.join(problems)}.",
            hint="Correct the environment variables and start again.",
        )
    return settings
