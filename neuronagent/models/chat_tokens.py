"""How many tokens a chat has for a model, by its own tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer

from neuronagent.models.checkpoint import quiet


class Counter(Protocol):
    """Counts the tokens of messages, with the prompt for an answer."""

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> int: ...


def chat_counter(name_or_folder: str) -> Counter | None:
    """The counter of a model; None where no tokenizer with a chat template of
    that name is on this machine. Nothing is downloaded."""
    folder = Path(name_or_folder).expanduser()
    source = str(folder) if folder.is_dir() else name_or_folder
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it cannot count
        return None
    if not tokenizer.chat_template:
        return None

    def count(messages: Sequence[Mapping[str, Any]]) -> int:
        text = tokenizer.apply_chat_template([dict(m) for m in messages], add_generation_prompt=True, tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count
