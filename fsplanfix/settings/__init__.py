"""Every setting, typed and validated; README.md and .env.example document each."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .. import settings_file
from ..calls.model import Missed, Rules, Windows
from ..calls.number_rules import NumberRule
from ..calls.numbers import Numbering, is_outside_number
from ..errors import SettingsError
from ..freeswitch import originate, tones
from ..freeswitch.connection import Server
from .values import (
    COMMAND_SAFE,
    DIGITS,
    NAME,
    Address,
    Networks,
    Pattern,
    as_address,
    as_alert_url,
    as_aliases,
    as_bucket,
    as_country,
    as_data_fields,
    as_default_exts,
    as_dial_rules,
    as_domains,
    as_endpoint,
    as_first,
    as_folder,
    as_known,
    as_listen,
    as_map,
    as_matching,
    as_names,
    as_networks,
    as_number_rules,
    as_numbers,
    as_one_of,
    as_or_none,
    as_our_address,
    as_pattern,
    as_program,
    as_servers,
    as_upper,
)

__all__ = [
    "DOMAIN",
    "EMPTY_MATTERS",
    "SECRETS",
    "AccountSettings",
    "Address",
    "RecordSettings",
    "RuleSettings",
    "Settings",
    "StoreSettings",
    "given",
    "load",
    "unknown_names",
]

SECRETS = (
    "planfix_token",
    "pbx_token",
    "pbx_token_old",
    "secret_key",
    "secret_key_old",
    "freeswitch_esl",
    "admin_password",
    "view_password",
    "cdr_secret",
    "alert_url",
    "recordings_s3_secret",
)
"""Settings that may also stand in a file, which NAME_FILE names."""


DOMAIN = "{domain}"
"""What an account's folder of recordings may hold in place of the account's domain."""

EMPTY_MATTERS = ("HIDDEN_NUMBER", "RING_FIRST")
"""Settings that mean something when they are empty. Any other empty setting counts as missing."""


class _Source(BaseSettings):
    """reads_environment: whether it looks beside the values it is made of."""

    reads_environment: ClassVar[bool] = True
    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic calls it so
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[Any, ...]:
        """Leave out LINES where it is a terminal's height, as `watch` and others export it."""

        if not cls.reads_environment:
            return (init_settings,)

        def environment() -> dict[str, Any]:
            return _without_height(env_settings())

        return init_settings, environment, dotenv_settings


def _without_height(environment: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(environment)
    if re.fullmatch(r"[0-9]{1,4}", str(values.get("lines", "")), re.ASCII):
        del values["lines"]
    return values


class RuleSettings(_Source):
    """The settings the call rules depend on; all have defaults."""

    country: Annotated[str, AfterValidator(as_country)] = "RU"
    area_code: Annotated[str, as_matching(re.compile("[0-9]{2,5}|", re.ASCII), "495")] = ""
    number_rules: Annotated[tuple[NumberRule, ...], NoDecode, BeforeValidator(as_number_rules)] = ()
    dial_rules: Annotated[tuple[NumberRule, ...], NoDecode, BeforeValidator(as_dial_rules)] = ()
    extension_pattern: Annotated[Pattern, BeforeValidator(as_pattern)] = re.compile(
        r"^\d{2,5}$", re.ASCII
    )
    extension_aliases: Annotated[dict[str, str], NoDecode, BeforeValidator(as_aliases)] = Field(
        default_factory=dict
    )
    hidden_number: str = "anonymous"
    default_ext: Annotated[dict[str, str], NoDecode, BeforeValidator(as_default_exts)] = Field(
        default_factory=dict
    )
    report_unrouted: bool = True
    missed: Annotated[Missed, as_one_of(Missed, "all, first, last or none")] = Missed.ALL
    windows: Annotated[Windows, as_one_of(Windows, "ring, answer or known")] = Windows.RING
    trusted_contexts: Annotated[frozenset[str], NoDecode, BeforeValidator(as_names)] = frozenset()
    trunk_users: Annotated[frozenset[str], NoDecode, BeforeValidator(as_names)] = frozenset()
    house_gateways: Annotated[frozenset[str], NoDecode, BeforeValidator(as_names)] = frozenset()
    domains: Annotated[frozenset[str], NoDecode, BeforeValidator(as_domains)] = frozenset()
    lines: Annotated[tuple[str, ...], NoDecode, BeforeValidator(as_numbers)] = ()
    data_fields: Annotated[dict[str, str], NoDecode, BeforeValidator(as_data_fields)] = Field(
        default_factory=dict
    )
    ignore_numbers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(as_numbers)] = ()
    voicemail: Annotated[str, as_matching(re.compile("link|"), "link")] = ""

    def rules(self) -> Rules:
        """Return the settings of the call rules."""
        numbering = Numbering(self.country, self.area_code, self.number_rules)
        known = partial(as_known, numbering=numbering)
        return Rules(
            country=self.country,
            area_code=self.area_code,
            number_rules=self.number_rules,
            dial_rules=self.dial_rules,
            ext_pattern=self.extension_pattern,
            aliases=self.extension_aliases,
            hidden_number=self.hidden_number,
            default_ext={known(line): ext for line, ext in self.default_ext.items()},
            report_unrouted=self.report_unrouted,
            missed=self.missed,
            windows=self.windows,
            trusted_contexts=self.trusted_contexts,
            trunk_users=self.trunk_users,
            house_gateways=self.house_gateways,
            domains=self.domains,
            data_fields=self.data_fields,
            lines=tuple(map(known, self.lines)),
            # an ext among them is no number that NUMBER_RULES could rewrite
            ignore_numbers=tuple(
                dict.fromkeys((*map(known, self.ignore_numbers), *self.ignore_numbers))
            ),
            voicemail=bool(self.voicemail),
        )


class StoreSettings(_Source):
    """Where the store is."""

    store_url: str = "sqlite:///fsplanfix.db"


class RecordSettings(_Source):
    """Where FreeSWITCH writes its call detail records."""

    cdr_dir: Annotated[Path | None, BeforeValidator(as_or_none), AfterValidator(as_folder)] = None
    cdr_kind: Annotated[str, as_matching(re.compile("json|xml"), "json")] = "json"
    history_rate: float = Field(default=5.0, gt=0, le=1000)


class AccountSettings(_Source):
    """Where the companies on the switch are named; None where there is one, the environment's."""

    accounts_file: Annotated[Path | None, BeforeValidator(as_or_none)] = None


class Settings(RuleSettings, StoreSettings, RecordSettings, AccountSettings):
    """Everything `fsplanfix run` needs."""

    planfix_url: Annotated[str, AfterValidator(as_address)] = Field(
        default="",
        validate_default=False,
        description="the address for requests that Planfix shows in the integration's settings",
    )
    planfix_token: SecretStr = Field(
        default=SecretStr(""),
        validate_default=False,
        description="the token that Planfix shows beside that address",
    )
    pbx_token: SecretStr = Field(
        default=SecretStr(""),
        validate_default=False,
        min_length=8,
        description="the key you enter in Planfix for its requests to the PBX, "
        "at least 8 characters",
    )
    pbx_token_old: SecretStr = Field(
        default=SecretStr(""),
        validate_default=False,
        min_length=8,
        description="the key that Planfix still sends while you change it there",
    )
    planfix_concurrency: int = Field(default=16, ge=1, le=100)
    planfix_canceled: Annotated[
        str, as_matching(re.compile("auto|Canceled|Cancelled"), "auto, Canceled or Cancelled")
    ] = "auto"
    popup_ttl: float = Field(default=60.0, ge=0)
    keep_days: float = Field(default=30.0, ge=0)
    freeswitch_esl: Annotated[tuple[Server, ...], NoDecode, BeforeValidator(as_servers)] = (
        Server("127.0.0.1", 8021, "ClueCon"),
    )
    freeswitch_gone_after: float = Field(default=900.0, ge=120)
    esl_listen: Annotated[Address, NoDecode, BeforeValidator(as_listen)] = Address(
        "127.0.0.1", 8084
    )
    esl_allow: Annotated[Networks, NoDecode, BeforeValidator(as_networks)] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1"),
    )
    contact_deadline: float = Field(default=1.5, ge=0.3, le=5)
    ring_first: Annotated[tuple[str, ...], NoDecode, BeforeValidator(as_first)] = (
        "manager",
        "last",
    )
    ring_seconds: int = Field(default=20, ge=3, le=60)
    ring_last_days: float = Field(default=30.0, ge=0, le=3650)
    http_listen: Annotated[Address, NoDecode, BeforeValidator(as_listen)] = Address(
        "127.0.0.1", 8080
    )
    http_cert: Annotated[Path | None, BeforeValidator(as_or_none)] = None
    http_key: Annotated[Path | None, BeforeValidator(as_or_none)] = None
    public_url: Annotated[str, AfterValidator(as_our_address)] | None = None
    recordings_dir: Annotated[Path, AfterValidator(as_folder)] = Path(
        "/var/lib/freeswitch/recordings"
    )
    voicemail_dir: Annotated[
        Path | None, BeforeValidator(as_or_none), AfterValidator(as_folder)
    ] = None
    recordings_url: Annotated[str, AfterValidator(as_our_address)] | None = None
    recordings_map: Annotated[tuple[str, str] | None, NoDecode, BeforeValidator(as_map)] = None
    recordings_convert: Annotated[str, as_matching(re.compile("mp3|"), "mp3")] = ""
    recordings_keep_days: float = Field(default=0, ge=0)
    recordings_s3: Annotated[tuple[str, str] | None, NoDecode, BeforeValidator(as_bucket)] = None
    recordings_s3_endpoint: Annotated[str, AfterValidator(as_endpoint)] | None = None
    recordings_s3_region: Annotated[str, as_matching(NAME, "us-east-1")] = ""
    recordings_s3_key: str = ""
    recordings_s3_secret: SecretStr = SecretStr("")
    dial_string: Annotated[str, AfterValidator(originate.read_dial_string)] = (
        "sofia/gateway/trunk/{number}"
    )
    dial_context: Annotated[str, as_matching(NAME, "default")] = ""
    user_domain: Annotated[str, as_matching(NAME, "pbx.example.com")] = ""
    dial_allow: Annotated[Pattern | None, BeforeValidator(as_pattern)] = None
    dial_limit: int = Field(default=120, ge=1, le=100_000)
    dial_limit_per_ext: int = Field(default=20, ge=1, le=100_000)
    dial_strings: Annotated[
        dict[str, str], NoDecode, BeforeValidator(originate.read_dial_strings)
    ] = Field(default_factory=dict)
    click_timeout: int = Field(default=30, ge=5, le=300)
    client_timeout: int = Field(default=60, ge=5, le=300)
    record_clicks: bool = False
    record_stereo: bool = False
    auto_answer: bool = False
    ringback: Annotated[str, AfterValidator(tones.read)] | None = None
    outbound_caller_id: Annotated[str, as_matching(DIGITS, "74950000001")] = ""
    secret_key: SecretStr = SecretStr("")
    secret_key_old: SecretStr = SecretStr("")
    admin_password: SecretStr = SecretStr("")
    view_password: SecretStr = SecretStr("")
    cdr_secret: SecretStr = SecretStr("")
    alert_command: Annotated[
        Path | None, BeforeValidator(as_or_none), AfterValidator(as_program)
    ] = None
    alert_url: Annotated[SecretStr, AfterValidator(as_alert_url)] = SecretStr("")
    log_format: Annotated[str, as_matching(re.compile("logfmt|json"), "json")] = "logfmt"
    log_mask: bool = False
    log_level: Annotated[
        str, BeforeValidator(as_upper), as_matching(re.compile("DEBUG|INFO|WARNING|ERROR"), "INFO")
    ] = "INFO"

    # the files that SECRETS may be read from
    planfix_token_file: str = ""
    pbx_token_file: str = ""
    pbx_token_old_file: str = ""
    secret_key_file: str = ""
    secret_key_old_file: str = ""
    admin_password_file: str = ""
    view_password_file: str = ""
    cdr_secret_file: str = ""
    alert_url_file: str = ""
    recordings_s3_secret_file: str = ""
    freeswitch_esl_file: str = ""

    @field_validator("recordings_s3")
    @classmethod
    def _serves_them_alone(cls, value: object, info: ValidationInfo) -> object:
        """Refuse a bucket beside another server: links lead to one of them."""
        if value and info.data.get("recordings_url"):
            raise ValueError("it and RECORDINGS_URL exclude each other; remove one of them.")
        return value

    @field_validator("record_clicks")
    @classmethod
    def _folder_can_be_named(cls, value: bool, info: ValidationInfo) -> bool:
        """Refuse a folder whose name would mean something in a command to FreeSWITCH."""
        given, mapped = info.data.get("recordings_dir"), info.data.get("recordings_map")
        folder = mapped[0] if mapped else str(given or "")
        # each account puts its own domain there (accounts.py)
        if info.data.get("accounts_file"):
            folder = folder.replace(DOMAIN, "")
        if value and not COMMAND_SAFE.fullmatch(folder):
            raise ValueError(
                f"FreeSWITCH cannot be told to record into '{folder}'; "
                "choose a folder of letters, digits and ._-/ alone."
            )
        return value

    @field_validator("outbound_caller_id")
    @classmethod
    def _clients_may_see_it(cls, value: str, info: ValidationInfo) -> str:
        """Refuse an ext: clients never see one."""
        pattern, digits = info.data.get("extension_pattern"), value.removeprefix("+")
        what = ""
        if pattern is not None and digits and pattern.fullmatch(digits):
            what = "is an ext by EXTENSION_PATTERN"
        elif value and (not is_outside_number(digits) or not digits.strip("0")):
            what = "is not a whole phone number"
        if what:
            raise ValueError(f"'{value}' {what}; write your company's number like 74950000001.")
        return value

    def pbx_keys(self) -> tuple[str, str]:
        """Return PBX_TOKEN and PBX_TOKEN_OLD, "" if there is none."""
        return self.pbx_token.get_secret_value(), self.pbx_token_old.get_secret_value()

    def bucket(self) -> dict[str, str]:
        """Return what recordings/bucket.py must know of RECORDINGS_S3."""
        name, prefix = self.recordings_s3 or ("", "")
        return {
            "bucket": name,
            "prefix": prefix,
            "endpoint": self.recordings_s3_endpoint or "",
            "region": self.recordings_s3_region,
            "key": self.recordings_s3_key,
            "secret": self.recordings_s3_secret.get_secret_value(),
        }

    def folder_for_clicks(self) -> str:
        """Return the folder where FreeSWITCH records clicks, as it names it; "" for none."""
        if not self.record_clicks:
            return ""
        return self.recordings_map[0] if self.recordings_map else str(self.recordings_dir)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in SECRETS:
            path = values.get(f"{name}_file")
            if path:
                # editors end a file with a line break
                try:
                    values[name] = Path(path).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    reason = getattr(error, "strerror", None) or "it is not text"
                    raise ValueError(
                        f"{name.upper()}_FILE: {path} cannot be read ({reason})."
                    ) from None

        # without both, `setup` tells them; one alone is a mistake
        for name, other in (("planfix_url", "planfix_token"), ("planfix_token", "planfix_url")):
            if values.get(name) and not values.get(other):
                values[other] = None

        # with a file of accounts each of them has its own
        if not values.get("accounts_file"):
            values.setdefault("pbx_token", None)
        return values

    @field_validator("planfix_url", "planfix_token", "pbx_token", mode="before")
    @classmethod
    def _must_be_there(cls, value: Any) -> Any:
        if value is None or value == "":
            raise PydanticKnownError("missing")
        return value


T = TypeVar("T", bound=_Source)


def _emptied(file: Path | None) -> dict[str, Any]:
    """Return the settings that are given, empty, and mean something so.

    env_ignore_empty drops an empty setting even where it has a meaning.
    """
    in_file = dotenv_values(file) if file else {}
    return {
        name.lower(): "" for name in EMPTY_MATTERS if os.environ.get(name, in_file.get(name)) == ""
    }


def _by_field(own: Mapping[str, str] | None) -> dict[str, Any]:
    return {name.lower(): value for name, value in (own or {}).items()}


def given(kind: type[_Source], own: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the environment, the file of settings and `own` say, unread, by field.

    Raises SettingsError if the file cannot be read.
    """
    file = settings_file.find()
    return {
        **DotEnvSettingsSource(kind, env_file=file)(),
        **_without_height(EnvSettingsSource(kind)()),
        **_emptied(file),
        **_by_field(own),
    }


def load(kind: type[T], own: Mapping[str, str] | None = None) -> T:
    """Read settings of a kind from the environment and the file of settings.

    own: settings by name that take precedence over both, such as those of a trace.
    Raises SettingsError if the file cannot be read, or with one sentence for each setting that is
    missing or wrong.
    """
    file = settings_file.find()
    values = {**_emptied(file), **_by_field(own)}
    try:
        return kind(_env_file=file, **values)  # type: ignore[call-arg]
    except UnicodeEncodeError:
        raise SettingsError(["A setting in the environment is not text in UTF-8."]) from None
    except ValidationError as error:
        problems, hint = settings_file.sentences(kind, error), ""
        if any(problem["type"] == "missing" for problem in error.errors()):
            # what is missing may be there under a misspelt name
            problems += [f"{name.name} is not a setting: {name.hint}" for name in unknown_names()]
            hint = settings_file.origin(file)
        raise SettingsError(problems, hint) from None


def unknown_names() -> list[settings_file.UnknownName]:
    """Return the names in the file of settings that are not settings."""
    file = settings_file.find()
    names = [name.upper() for name in Settings.model_fields]
    return settings_file.unknown_names(file, names) if file else []
