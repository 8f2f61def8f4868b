"""The environment, read once; what can't be understood is named."""

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices

from atelier.errors import ConfigurationError
from atelier.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def names_of(field):
    alias = Settings.model_fields[field].validation_alias
    return list(alias.choices) if isinstance(alias, AliasChoices) else [alias]


NAMES = sorted(name for field in Settings.model_fields for name in names_of(field))


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_defaults():
    settings = load_settings()
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.comfyui_urls == ()
    assert settings.database == f"sqlite:///{Path('data/atelier.db').absolute()}"
    assert settings.storage.url == str(Path("data/storage").absolute())
    assert not settings.seats_are_fixed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://a:8188", ("http://a:8188",)),
        (" http://a:8188/ , https://b/comfy ", ("http://a:8188", "https://b/comfy")),
        ("http://a,http://a/", ("http://a",)),
        (",", ()),
        ("", ()),
    ],
)
def test_instances_are_split_at_commas(monkeypatch, value, expected):
    monkeypatch.setenv("COMFYUI_URLS", value)
    assert load_settings().comfyui_urls == expected


def test_older_names_are_understood(monkeypatch):
    monkeypatch.setenv("COMFYUI_BASE_URL", "http://old:8188")
    assert load_settings().comfyui_urls == ("http://old:8188",)
    monkeypatch.setenv("COMFYUI_URLS", " http://old:8188/ ")
    assert load_settings().comfyui_urls == ("http://old:8188",), "both may say the same"


@pytest.mark.parametrize(
    "environment",
    [
        {"COMFYUI_URLS": "http://new:8188", "COMFYUI_BASE_URL": "http://old:8188"},
        {"STORAGE_URL": "s3://bucket", "STORAGE_BASE_PATH": "/var/pictures"},
        {"DATABASE_URL": "mysql://u@db/atelier", "DB_HOST": "other"},
        {"DATABASE_URL": "mysql://u@db/atelier", "DB_NAME": "pictures"},
        {"REDIS_URL": "redis://cache:6379/0", "REDIS_PORT": "6380"},
    ],
)
def test_contradiction_names_both_variables(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="contradict") as caught:
        load_settings()
    for name in environment:
        assert name in caught.value.message


def test_contradiction_shows_no_secret(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hunter22@db/atelier")
    monkeypatch.setenv("DB_PASSWORD", "hunter23")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "hunter2" not in caught.value.message
    assert "DB_PASSWORD" in caught.value.message


def test_command_line_settles_a_contradiction(monkeypatch):
    monkeypatch.setenv("COMFYUI_URLS", "http://new:8188")
    monkeypatch.setenv("COMFYUI_BASE_URL", "http://old:8188")
    assert load_settings(comfyui_urls="http://b").comfyui_urls == ("http://b",)


def test_database_is_named_by_its_parts(monkeypatch):
    for name, value in (
        ("DB_HOST", "db"), ("DB_PORT", "3307"), ("DB_USER", "a:b"), ("DB_PASSWORD", "p@ss"),
        ("DB_NAME", "pictures"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    assert load_settings().database == "mysql://a%3Ab:p%40ss@db:3307/pictures"
    monkeypatch.setenv("DATABASE_URL", "mysql://a%3Ab:p%40ss@db:3307/pictures")
    assert load_settings().database == "mysql://a%3Ab:p%40ss@db:3307/pictures"


def test_part_without_its_host_is_named(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "p")
    with pytest.raises(ConfigurationError, match="neither DB_HOST nor DATABASE_URL"):
        load_settings()


def test_redis_is_named_by_its_parts(monkeypatch):
    assert load_settings().redis_url is None
    monkeypatch.setenv("REDIS_HOST", "::1")
    monkeypatch.setenv("REDIS_PASSWORD", "p@ss")
    assert load_settings().redis_url == "redis://:p%40ss@[::1]:6379"


def test_folders_of_a_comfyui_on_this_machine(monkeypatch):
    monkeypatch.setenv("COMFYUI_ROOT", "/opt/comfy")
    assert load_settings().comfyui_input_folder == Path("/opt/comfy/input")
    monkeypatch.setenv("COMFYUI_INPUT_DIR", "/data/in")
    assert load_settings().comfyui_input_folder == Path("/data/in")
    assert load_settings().comfyui_output_folder == Path("/opt/comfy/output")


def test_secrets_are_collected_for_the_log(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:s3cret@h/d")
    monkeypatch.setenv("COMFYUI_URLS", "http://user:hunter2@gpu:8188")
    assert {"s3cret", "hunter2"} <= load_settings().secrets


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("COMFYUI_URL", "http://one:8188", "comfyui_urls", ("http://one:8188",)),
        ("TASK_API_URL", "http://tasks.example", "server_url", "http://tasks.example"),
        ("COMFYUI_CLIENT_ID", "studio-7", "comfyui_client_id", "studio-7"),
        ("APP_ENV", "staging", "app_env", "staging"),
    ],
)
def test_names_of_the_tasks_dialect_are_understood(monkeypatch, variable, value, field, expected):
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(), field) == expected


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("gpu-1", None, "http://gpu-1:8188"),
        ("gpu-1", "9000", "http://gpu-1:9000"),
        ("gpu-1:8000", "9000", "http://gpu-1:8000"),
        ("10.0.0.7", None, "http://10.0.0.7:8188"),
        ("::1", None, "http://[::1]:8188"),
        ("http://gpu-1:8000/comfy/", "9000", "http://gpu-1:8000/comfy"),
        ("https://gpu.example", None, "https://gpu.example"),
    ],
)
def test_instance_may_be_named_by_host_and_port_or_by_url(monkeypatch, host, port, expected):
    monkeypatch.setenv("COMFYUI_HOST", host)
    if port is not None:
        monkeypatch.setenv("COMFYUI_PORT", port)
    assert load_settings().comfyui_urls == (expected,)


def test_port_alone_names_no_instance(monkeypatch):
    monkeypatch.setenv("COMFYUI_PORT", "9000")
    assert load_settings().comfyui_urls == ()


def test_instances_that_contradict_each_other_are_both_named(monkeypatch):
    monkeypatch.setenv("COMFYUI_HOST", "gpu-1")
    monkeypatch.setenv("COMFYUI_URLS", "http://gpu-1:8188,http://gpu-2:8188")
    assert len(load_settings().comfyui_urls) == 2
    monkeypatch.setenv("COMFYUI_URLS", "http://gpu-2:8188")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "COMFYUI_HOST, which means http://gpu-1:8188, and COMFYUI_URLS=http://gpu-2" in (
        caught.value.message
    )
    assert load_settings(comfyui_urls="http://b").comfyui_urls == ("http://b",)


def test_longest_run_has_an_older_name(monkeypatch):
    assert load_settings().job_timeout_seconds == 1800
    monkeypatch.setenv("COMFYUI_TIMEOUT", "300")
    assert load_settings().job_timeout_seconds == 300


def test_service_may_have_a_name_and_version_of_its_own(monkeypatch):
    assert (load_settings().app_name, load_settings().app_version) == ("atelier", None)
    monkeypatch.setenv("APP_NAME", "Pictures")
    monkeypatch.setenv("APP_VERSION", "2.1")
    assert (load_settings().app_name, load_settings().app_version) == ("Pictures", "2.1")


def test_command_line_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("COMFYUI_URLS", "http://a")
    assert load_settings(port=9001, host=None).port == 9001
    assert load_settings(comfyui_urls="http://b,http://c").comfyui_urls == ("http://b", "http://c")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("COMFYUI_URLS", "127.0.0.1:8188"),
        ("ATELIER_EMBEDDED_ENGINE", "maybe"),
        ("COMFYUI_HOST", "ftp://gpu-1"),
        ("COMFYUI_PORT", "0"),
        ("COMFYUI_TIMEOUT", "-1"),
        ("MAX_CONCURRENT_TASKS", "0"),
        ("TASK_CLEANUP_HOURS", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("DEBUG", "perhaps"),
        ("COMFYUI_CLIENT_ID", "two words"),
    ],
)
def test_value_that_can_not_be_understood_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert name in caught.value.message
    assert caught.value.hint


def test_level_is_taken_in_small_letters_too(monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "warning")
    assert load_settings().log_level == "WARNING"


def test_chosen_number_of_tasks_is_fixed(monkeypatch):
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "10")
    assert load_settings().seats_are_fixed


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:s3cret@h/d")
    monkeypatch.setenv("STORAGE_SECRET_KEY", "s3cret")
    settings = load_settings()
    assert "s3cret" not in repr(settings)
    assert settings.database == "postgresql://u:s3cret@h/d"


def test_every_setting_says_what_it_is():
    for name, field in Settings.model_fields.items():
        assert field.description, name


def table(document):
    """The rows of the configuration table, and the variables that their first cells name."""
    lines = (ROOT / document).read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| `[A-Z0-9_]+`", line)]
    named = {name for row in rows for name in re.findall(r"`([A-Z0-9_]+)`", row.split("|")[1])}
    return "\n".join(rows), named


@pytest.mark.parametrize("document", ["README.md", "README_zh.md"])
@pytest.mark.parametrize("name", NAMES)
def test_every_variable_stands_in_the_table_of(document, name):
    text, named = table(document)
    families = re.findall(r"`([A-Z]+_)\*`", text)  # `AWS_*` stands for all that begin so
    assert name in named or name.startswith(tuple(families))


@pytest.mark.parametrize("document", ["README.md", "README_zh.md"])
def test_table_names_no_variable_that_is_not_read(document):
    _, named = table(document)
    assert len(named) > 10
    assert named <= set(NAMES)


def test_weights_of_users_are_read(monkeypatch):
    monkeypatch.setenv("ATELIER_USER_WEIGHTS", "alice=3, bob=0.5,a=b=2,")
    assert load_settings().user_weights == {"alice": 3.0, "bob": 0.5, "a=b": 2.0}


@pytest.mark.parametrize("value", ["alice", "=3", "alice=much", "alice=0", "alice=-1", "alice=inf"])
def test_weight_that_cannot_be_one_is_refused(monkeypatch, value):
    monkeypatch.setenv("ATELIER_USER_WEIGHTS", value)
    with pytest.raises(ConfigurationError, match="ATELIER_USER_WEIGHTS"):
        load_settings()
