"""Keys and passwords: they stay in the environment, and out of every file that a run writes."""

import os
import re
from collections.abc import Iterator
from typing import Any

from cf_lightning.data.remote import refuse_password
from cf_lightning.errors import ConfigError

# what sets one, as in ``api_key=KEY``, ``{api_key: KEY}``, ``https://host/?sig=KEY``; not ``cls_token=true``
SETTING = re.compile(
    r"(?<![a-z])(?:\w*_)?(?:api_?key|access_?key(?:_id)?|secret(?:_key)?|password|passwd|credentials?"
    r"|(?:access|api|auth|hf|sas|session)_?token|(?<!_)token|(?<=[?&])(?:x-amz-)?sig(?:nature)?)"
    r"""['"]?\s*[=:]\s*(?=[^\s,}])(?!null)""",
    re.IGNORECASE,
)
HOLDERS = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")  # variables of the environment that are named so
SHORTEST = 12  # letters of what is taken for one


def refuse_on_command_line(words: list[str]) -> None:
    """Raise ``ConfigError`` where a word holds a credential, and do not repeat that."""
    for word in words:
        refuse_password(word)
        if found := SETTING.search(word):
            raise _refusal(f"{word[: found.end()]}***")
        _refuse_held(word, word.partition("=")[0])


def refuse_in(node: dict[str, Any]) -> None:
    """The same for the values of a resolved configuration, which go into manifests."""
    for key, value in _texts(node):
        refuse_password(f"{key}={value}")
        if found := SETTING.search(f"{key}={value}"):
            raise _refusal(f"{f'{key}={value}'[: found.end()]}***")
        _refuse_held(value, key)


def _refuse_held(text: str, key: str) -> None:
    """Refuse what a variable of the environment holds that is named like a credential."""
    for name, secret in os.environ.items():
        if HOLDERS.search(name) and len(secret) >= SHORTEST and secret in text:
            raise _refusal(f"{key} holds the value of ${name}")


def _refusal(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: a key or password would be written to logs and manifests; leave it to the environment "
        "(WANDB_API_KEY), `wandb login`, or the store's own configuration"
    )


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a configuration with its key."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, list):
        for number, item in enumerate(node):
            yield from _texts(item, f"{key}[{number}]")
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}".removeprefix("."))
