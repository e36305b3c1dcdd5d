"""Tensors of a checkpoint's safetensors files, read by name, one at a time.

Each read maps its file, copies one tensor out of it as float32 and lets the file go: what stays in memory is what the
caller holds, whatever the size of the file. Names are Hugging Face's, with the prefix that this checkpoint gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor

from neuronagent.domain import clip
from neuronagent.errors import ModelError

_DTYPES = ("F64", "F32", "BF16", "F16")
_EMBEDDING = "embed_tokens.weight"
_PREFIXES = ("model.", "language_model.model.", "model.language_model.", "")
_HEADS = ("lm_head.weight", "language_model.lm_head.weight")
_REMEDY = "use a complete checkpoint of the language model that config.json describes"


class TensorFiles:
    """The language model's tensors by their names below the base model (`layers.0.mlp.up_proj.weight`), and its head.

    An image-and-text checkpoint has more tensors than these; they are left alone.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        """Reads the headers only.

        Raises:
            ModelError: two tensors of one name, or no embedding, or several.
        """
        self._folder = files[0].parent
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 (an open file is no mapping)
                    if name in self._files:
                        raise ModelError(f"{clip(name, 100)} is in {self._files[name].name} and in {path.name}")
                    self._files[name] = path
                    self._shapes[name] = tuple(file.get_slice(name).get_shape())
        found = [name for name in self._files if name == _EMBEDDING or name.endswith("." + _EMBEDDING)]
        self._prefix = next((p for p in _PREFIXES if found == [p + _EMBEDDING]), None)
        self._head = next((name for name in _HEADS if name in self._files), None)

    @property
    def has_head(self) -> bool:
        """Whether the head has a matrix of its own; without one it is the embedding."""
        return self._head is not None

    def __contains__(self, name: str) -> bool:
        return self._full(name) in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises `ModelError` if there is no such tensor."""
        return self._shapes[self._present(self._full(name))]

    def read(self, name: str) -> Tensor:
        """A float32 copy on the CPU.

        Raises:
            ModelError: there is no such tensor, or its numbers are in a format that is not modelled.
        """
        return self._read(self._full(name))

    def read_head(self) -> Tensor:
        """The head `[vocabulary, d_model]` as stored, float32; the embedding where they are one."""
        return self.read(_EMBEDDING) if self._head is None else self._read(self._head)

    def read_embedding(self) -> Tensor:
        """The embedding `[vocabulary, d_model]` as stored, float32."""
        return self.read(_EMBEDDING)

    def read_embedding_row(self, token: int) -> Tensor:
        """The embedding `[d_model]` of one token as stored, float32."""
        full = self._full(_EMBEDDING)
        with _opened(self._files[full]) as file:
            self._check_dtype(full, file)
            return cast(Tensor, file.get_slice(full)[token : token + 1])[0].to(torch.float32, copy=True)

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        return self.shape(_EMBEDDING)

    def check(self, expected: dict[str, tuple[int, ...]], *, tied: bool, alone: bool) -> None:
        """Compare the files with the base model's parameters, by name and shape.

        Args:
            expected: what the base model has.
            tied: the head may be the embedding.
            alone: the files hold the language model and nothing beside it.

        Raises:
            ModelError: tensors that are missing, left over or of another shape; the first by name is named.
        """
        wanted = {self._full(name): shape for name, shape in expected.items()}
        missing = sorted(wanted.keys() - self._files.keys())
        if self._head is None and not tied:
            missing.append(_HEADS[0])
        mine = {name for name in self._files if alone or name.startswith(self._full(""))}
        # Old files hold the angles of the rotary embedding, which are computed today.
        over = sorted(n for n in mine - wanted.keys() - {self._head} if not n.endswith("rotary_emb.inv_freq"))
        for what, names in (("missing", missing), ("left over", over)):
            if names:
                raise ModelError(
                    f"{len(names)} tensors are {what} in {self._folder}, such as {clip(names[0], 100)}", remedy=_REMEDY
                )
        if self._head is not None:
            wanted[self._head] = expected[_EMBEDDING]
        for name, shape in wanted.items():
            if self._shapes[name] != shape:
                raise ModelError(
                    f"{clip(name, 100)} is {list(self._shapes[name])}, and config.json says {list(shape)}",
                    remedy=_REMEDY,
                )

    def _full(self, name: str) -> str:
        if self._prefix is None:
            raise ModelError(
                f"1 tensors are missing in {self._folder}, such as {_PREFIXES[0]}{_EMBEDDING}", remedy=_REMEDY
            )
        return self._prefix + name

    def _present(self, full: str) -> str:
        if full not in self._files:
            raise ModelError(f"1 tensors are missing in {self._folder}, such as {clip(full, 100)}", remedy=_REMEDY)
        return full

    def _read(self, full: str) -> Tensor:
        with _opened(self._files[self._present(full)]) as file:
            self._check_dtype(full, file)
            return cast(Tensor, file.get_tensor(full)).to(torch.float32, copy=True)

    @staticmethod
    def _check_dtype(full: str, file: Any) -> None:
        dtype = file.get_slice(full).get_dtype()
        if dtype not in _DTYPES:
            raise ModelError(
                f"{clip(full, 100)} is stored as {clip(str(dtype))}: quantised weights are not modelled",
                remedy=f"allowed: {', '.join(_DTYPES)}",
            )


def _opened(path: Path) -> Any:
    return safe_open(str(path), framework="pt")
