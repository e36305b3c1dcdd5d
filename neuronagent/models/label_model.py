"""A causal language model that answers with one of a few labels: their probabilities right after a prompt.

One forward pass per prompt and no sampling. A prompt is rendered with the model's chat template, or, where it has none,
as plain text that ends with "Answer:". Special tokens that are written out in a message stay text: their first
character is escaped as in JSON, so that a passage cannot end its quotation by imitating the template.

Prompts are sorted by length and padded on the right: a causal model's real tokens never see what follows, so that no
mask and no positions are needed, and the logits at a prompt's last token are those that it has alone. Batches change
the rounding of matrix products and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from neuronagent.domain import clip
from neuronagent.errors import ModelError
from neuronagent.models.bridge import load_model
from neuronagent.models.checkpoint import find_checkpoint, open_tokenizer
from neuronagent.models.gated import GatedModel

Messages = Sequence[Mapping[str, object]]
"""A chat: mappings with `role` and `content`, both text."""

ANSWER = "\n\nAnswer:"
"""How a prompt ends where there is no chat template."""
_BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768, "mps": 8_192}


class LabelModel:
    """A loaded model with its way of rendering prompts. `context` is the most tokens that a prompt may have."""

    def __init__(
        self, model: GatedModel, tokenizer: PreTrainedTokenizerBase, *, batch_tokens: int | None = None
    ) -> None:
        """`batch_tokens`: of a forward pass, padding included, at most, if one prompt is not longer by itself."""
        self._model, self._tokenizer = model, tokenizer
        self._batch_tokens = _BATCH_TOKENS[model.device.type] if batch_tokens is None else batch_tokens
        self.name: str = model.name
        self.context: int = model.max_positions
        self._special = _special_tokens(tokenizer)
        self._template = bool(tokenizer.chat_template)
        self._system = self._template and self._takes_system()

    @classmethod
    def open(
        cls,
        name_or_folder: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
    ) -> LabelModel:
        """Load a model from a folder or the hub; `auto` is CUDA if there is any, and bfloat16 there, else float32.

        Raises:
            UsageError: an option that does not exist, or a device that is not there.
            UnsupportedArchitectureError: a model of a family that is not known.
            ModelError: files that are missing or broken, or a chat template that cannot be used.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        model = load_model(name_or_folder, revision=revision, dtype=dtype, device=device)
        tokenizer, _ = open_tokenizer(find_checkpoint(name_or_folder, revision))
        return cls(model, tokenizer, batch_tokens=batch_tokens)

    @property
    def weights_hash(self) -> str:
        """sha256 of the weights' files, which are read once for it: names the model beyond its folder."""
        return self._model.weights_hash

    def count(self, prompt: Messages) -> int:
        """How many tokens a prompt has as the model reads it."""
        return len(self._encode(self.render(prompt)))

    def log_probabilities(self, prompts: Sequence[Messages], labels: Sequence[str]) -> NDArray[np.float64]:
        """ln P(label | prompt) over the whole vocabulary, `[prompts, labels]`; NaN where a prompt is longer than
        `context`.

        Raises:
            ModelError: a label that is no single token, or logits that are not finite.
        """
        tokens = torch.tensor(self.label_tokens(labels), dtype=torch.int64)
        encoded = [self._encode(self.render(prompt)) for prompt in prompts]
        found = np.full((len(prompts), len(labels)), np.nan)
        for batch in self._batches(encoded):
            found[batch] = self._forward([encoded[place] for place in batch], tokens)
        return found

    def label_tokens(self, labels: Sequence[str]) -> list[int]:
        """The token that each label is right after a prompt, with or without a space before it, all alike.

        Raises:
            ModelError: there is none for one of them, or one for two.
        """
        end = self.render([{"role": "user", "content": "?"}])
        before = self._encode(end)
        for space in ("", " ") if self._template else (" ", ""):
            ids = [self._encode(end + space + label) for label in labels]
            single = all(len(found) == len(before) + 1 and found[:-1] == before for found in ids)
            if single and all(labels) and len({found[-1] for found in ids}) == len(labels):
                return [found[-1] for found in ids]
        raise ModelError(
            f"{', '.join(map(clip, labels))} are not single tokens for {clip(self.name, 100)}",
            remedy="use another model as a judge",
        )

    def render(self, prompt: Messages) -> str:
        """The text that the model reads, up to where its answer begins."""
        messages = [{"role": str(m["role"]), "content": self._harmless(str(m["content"]))} for m in prompt]
        if not self._template:
            bos = cast(str | None, self._tokenizer.bos_token) or ""
            return bos + "\n\n".join(m["content"] for m in messages) + ANSWER
        return self._rendered(messages if self._system else _without_system(messages))

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        # A template that lets its model think first would make the first token something else than an answer.
        rendered = cast(Any, self._tokenizer).apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return str(rendered)

    def _takes_system(self) -> bool:
        """Whether the chat template shows system messages: some raise, some leave them out.

        Raises:
            ModelError: it does not even show what a user says.
        """
        system, user = {"role": "system", "content": "first part"}, {"role": "user", "content": "second part"}
        try:
            both = self._rendered([system, user])
            if "first part" in both and "second part" in both:
                return True
        except Exception:  # noqa: BLE001 - a template is a program, and refuses in its own words
            pass
        try:
            alone = self._rendered([user])
        except Exception as error:
            raise ModelError(f"the chat template of {clip(self.name, 100)} fails: {clip(str(error), 100)}") from error
        if "second part" not in alone:
            raise ModelError(f"the chat template of {clip(self.name, 100)} leaves out what the user says")
        return False

    def _harmless(self, text: str) -> str:
        """`text` without special tokens written out: `<|end|>` becomes `\\u003c|end|>`, the same in a JSON string."""
        if self._special is None:
            return text
        return self._special.sub(lambda found: f"\\u{ord(found[0][0]):04x}{found[0][1:]}", text)

    def _encode(self, text: str) -> list[int]:
        return self._model.encode([text])[0]

    def _batches(self, encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """The places of prompts that fit, in batches of like length."""
        batch: list[int] = []
        for place in sorted(range(len(encoded)), key=lambda place: len(encoded[place])):
            length = len(encoded[place])
            if length > self.context:
                break
            if batch and (len(batch) + 1) * length > self._batch_tokens:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _forward(self, batch: Sequence[Sequence[int]], tokens: Tensor) -> NDArray[np.float64]:
        """Log-probabilities of `tokens` after each prompt, `[batch, tokens]`."""
        last = torch.tensor([len(ids) - 1 for ids in batch])
        padded = torch.zeros((len(batch), int(last.max()) + 1), dtype=torch.int64)
        for row, ids in zip(padded, batch, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        device = self._model.device
        with torch.inference_mode():
            output = cast(Any, self._model.live)(
                input_ids=padded.to(device), logits_to_keep=last[:, None].to(device), use_cache=False
            )
            logits = cast(Tensor, output.logits)[:, 0].double().cpu()  # (batch, V)
            found = logits.log_softmax(dim=-1)[:, tokens]
        if not bool(torch.isfinite(found).all()):
            raise ModelError(
                f"the logits of {clip(self.name, 100)} are not finite", remedy="try --dtype float32, or another model"
            )
        return found.numpy()


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """What a tokenizer would take for a special token, longest first; None if it has none of two characters or more."""
    table: Mapping[int, Any] = tokenizer.added_tokens_decoder
    found = {str(token.content) for token in table.values() if token.special and len(token.content) > 1}
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None


def _without_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The same messages, what the system says written before what the user says first."""
    said = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    if said and rest:
        rest[0]["content"] = f"{said}\n\n{rest[0]['content']}"
    return rest or [{"role": "user", "content": said}]
