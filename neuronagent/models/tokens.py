"""What bytes each token id stands for, and texts as token ids.

Two kinds of vocabulary are understood. *Byte-level* BPE writes each byte as one printable character: the joined
tokens of a text are its UTF-8 bytes exactly, unless the tokenizer normalises (Qwen's NFC) or adds a space in front.
*Sentencepiece* vocabularies write a space as `▁` and rare bytes as `<0x0A>`; they may drop or add spaces on the way
in, so that joining gives back what the model saw. Added tokens (`<s>`, `<|endoftext|>`) are their literal text.

Any other kind (WordPiece's `##`, say) is refused rather than shown with wrong spaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from tokenizers import Tokenizer
from tokenizers.decoders import Decoder

from neuronagent.errors import ModelError

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of_character() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte: itself where it is printable and no space, and
    otherwise the next unused character from U+0100 on (GPT-2's vocabulary)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + place): byte for place, byte in enumerate(hidden)})
    return table


_BYTES = _byte_of_character()


class Vocabulary:
    """A tokenizer's ids, bytes and encoding, for a model whose embedding has `size` rows.

    It takes `tokenizer` over: truncation and padding, which a tokenizer.json may ask for, are switched off.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        """Raises `ModelError` if the tokenizer's kind is not understood."""
        self._size = size
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        parts = list(_parts(self._tokenizer.decoder))
        kinds = {part["type"] for part in parts}
        self._byte_level = "ByteLevel" in kinds
        replaced = any(part["type"] == "Replace" and part["pattern"].get("String") == _SPACE for part in parts)
        if not (self._byte_level or replaced or "Metaspace" in kinds):
            raise ModelError(
                f"the tokenizer's `decoder` ({', '.join(sorted(kinds)) or 'none'}) is not understood",
                remedy="allowed: byte-level BPE, or a sentencepiece vocabulary that writes a space as ▁",
            )
        self._byte_fallback = "ByteFallback" in kinds

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text: whole, without BOS or other special tokens added.

        Raises:
            ModelError: a token that the model has no embedding for.
        """
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        if self._tokenizer.get_vocab_size() > self._size:
            for ids in encoded:
                if ids and max(ids) >= self._size:
                    token = self._tokenizer.id_to_token(max(ids))
                    raise ModelError(
                        f"token {token!r} has id {max(ids)}, but the model embeds {self._size} tokens only",
                        remedy="use the tokenizer that belongs to the model",
                    )
        return encoded

    def token_bytes(self) -> list[bytes | None]:
        """The bytes of each id, `[size]`; None where the tokenizer has no such id (padding rows)."""
        added = self._tokenizer.get_added_tokens_decoder()
        result: list[bytes | None] = []
        for token_id in range(self._size):
            token = self._tokenizer.id_to_token(token_id)
            if token is None:
                result.append(None)
            elif token_id in added and (self._byte_level or added[token_id].special):
                result.append(token.encode())
            else:
                result.append(self._ordinary(token))
        return result

    def _ordinary(self, token: str) -> bytes:
        if self._byte_level:
            codes = [_BYTES.get(character) for character in token]
            known = [code for code in codes if code is not None]
            # A token with other characters did not come from bytes: it is written as it is.
            return bytes(known) if len(known) == len(codes) else token.encode()
        if self._byte_fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.replace(_SPACE, " ").encode()


def _parts(decoder: Decoder | None) -> Iterator[dict[str, Any]]:
    """The decoder's steps, as in tokenizer.json."""
    if decoder is None:
        return
    state = cast(dict[str, Any], json.loads(cast(bytes, decoder.__getstate__())))
    yield from state.get("decoders", [state])
