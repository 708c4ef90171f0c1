"""Tokenizers and configurations as plain values, so that one checkpoint file holds all that a prediction needs."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig


def named_config(name: str) -> PretrainedConfig:
    """Return the configuration of a model by its name or directory.

    Raises:
        OSError: If there is none.
    """
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        what = "holds no `transformers` model" if Path(name).is_dir() else "is no directory, and no name within reach"
        raise OSError(f"`model={name!r}` {what} ({str(error).splitlines()[0]})") from error


def tokenizer_files(tokenizer: Any) -> dict[str, str]:
    """Return the files of a tokenizer by name, in base64."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): base64.b64encode(path.read_bytes()).decode("ascii") for path in files}


def tokenizer_from(files: dict[str, str]) -> Any:
    """Return the tokenizer whose files :func:`tokenizer_files` returned."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
        return AutoTokenizer.from_pretrained(folder)


def config_values(config: PretrainedConfig) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    return json.loads(config.to_json_string(use_diff=False))


def config_from(values: dict[str, Any]) -> PretrainedConfig:
    """Return the configuration whose values :func:`config_values` returned."""
    with tempfile.TemporaryDirectory() as folder:  # the one reader that undoes what the writer did to every field
        Path(folder, "config.json").write_text(json.dumps(values), encoding="utf8")
        return AutoConfig.from_pretrained(folder)
