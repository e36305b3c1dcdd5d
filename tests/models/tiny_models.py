"""One tiny random model per family, with what a test must know about it independently of `families.py`.

Fresh models have norms of one (or zero) and no biases, with which any folding would pass: every parameter is random,
soft-caps and clipping are small enough to act, windows are shorter than the test's texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

D_MODEL, D_MLP, LAYERS, ROWS = 32, 48, 2, 300
EPS = 1e-3
TRAINING_TEXT = ["the cat sat on the mat, the cat sat on the hat", "naïve café – 猫\n\tdef f(x): return x"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """`before`: the module of a layer whose input is the residual before the MLP."""

    name: str
    config: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    before: str = "post_attention_layernorm"
    after: str | None = None
    normed: bool = True
    layer_norm: bool = False
    base: str = "model"
    activation: str = "silu"
    attention: str = "sdpa"
    bos: bool = True

    def layers(self, live: nn.Module) -> list[nn.Module]:
        return list(live.get_submodule(f"{self.base}.layers").children())

    def normalise(self, residual: Tensor) -> Tensor:
        """What a norm of this family does before its scale, in float64."""
        x = residual.double()
        if self.layer_norm:
            x = x - x.mean(-1, keepdim=True)
            return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()


_WINDOWS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
_GEMMA: dict[str, Any] = {
    "before": "pre_feedforward_layernorm",
    "after": "post_feedforward_layernorm",
    "activation": "gelu_pytorch_tanh",
}
_GEMMA3: dict[str, Any] = {**_WINDOWS, "sliding_window": 8, "query_pre_attn_scalar": 8, "attention_bias": True}
_OLMO2: dict[str, Any] = {"before": "mlp", "after": "post_feedforward_layernorm", "normed": False}

_ALL = (
    Spec(name="llama", config="LlamaConfig", model="LlamaForCausalLM", settings={"mlp_bias": True}),
    Spec(name="mistral", config="MistralConfig", model="MistralForCausalLM", settings={"sliding_window": 4}),
    Spec(
        name="qwen2",
        config="Qwen2Config",
        model="Qwen2ForCausalLM",
        settings={"use_sliding_window": True, **_WINDOWS},
        bos=False,
    ),
    Spec(
        name="qwen3", config="Qwen3Config", model="Qwen3ForCausalLM", settings={"hidden_act": "gelu"}, activation="gelu"
    ),
    Spec(name="gemma", config="GemmaConfig", model="GemmaForCausalLM", activation="gelu_pytorch_tanh"),
    Spec(
        name="gemma2",
        config="Gemma2Config",
        model="Gemma2ForCausalLM",
        settings={
            **_WINDOWS,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 0.5,
            "final_logit_softcapping": 8.0,
        },
        attention="eager",
        **_GEMMA,
    ),
    Spec(name="gemma3_text", config="Gemma3TextConfig", model="Gemma3ForCausalLM", settings=_GEMMA3, **_GEMMA),
    Spec(
        name="gemma3",
        config="Gemma3Config",
        model="Gemma3ForConditionalGeneration",
        settings=_GEMMA3,
        base="model.language_model",
        **_GEMMA,
    ),
    Spec(
        name="olmo",
        config="OlmoConfig",
        model="OlmoForCausalLM",
        settings={"clip_qkv": 0.2},
        layer_norm=True,
        bos=False,
    ),
    Spec(name="olmo2", config="Olmo2Config", model="Olmo2ForCausalLM", **_OLMO2),
    Spec(name="olmo3", config="Olmo3Config", model="Olmo3ForCausalLM", settings=_WINDOWS, **_OLMO2),
    Spec(name="phi3", config="Phi3Config", model="Phi3ForCausalLM", settings={"sliding_window": 4}),
)
SPECS = {spec.name: spec for spec in _ALL}

_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def sizes(**more: Any) -> dict[str, Any]:
    """Settings that all families share."""
    return {
        "vocab_size": ROWS,
        "hidden_size": D_MODEL,
        "intermediate_size": D_MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "rms_norm_eps": EPS,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        **more,
    }


def make_config(spec: Spec, **more: Any) -> Any:
    settings = sizes(**spec.settings, **more)
    if spec.config == "Gemma3Config":
        return transformers.Gemma3Config(
            text_config=settings,
            vision_config=_VISION,
            mm_tokens_per_image=4,
            image_token_index=3,
            tie_word_embeddings=False,
        )
    return getattr(transformers, spec.config)(**settings)


def make_model(spec: Spec, seed: int = 0, **more: Any) -> Any:
    """A model with random matrices, biases and norms."""
    live = getattr(transformers, spec.model)(make_config(spec, **more))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in live.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.4 * noise)
            else:
                parameter.copy_(noise * (1.0 if "embed_tokens" in name else parameter.shape[-1] ** -0.5))
    return live.eval()


def save_tiny(spec: Spec, folder: Path, tokenizer: Callable[[], Tokenizer] | None = None, **more: Any) -> Path:
    """A complete model folder: configuration, safetensors and tokenizer."""
    make_model(spec, **more).save_pretrained(str(folder))
    special: dict[str, Any] = {"eos_token": "</s>", "pad_token": "<pad>"} | ({"bos_token": "<s>"} if spec.bos else {})
    fast = PreTrainedTokenizerFast(tokenizer_object=(tokenizer or byte_level)(), model_max_length=8, **special)
    fast.save_pretrained(str(folder))
    return folder


def byte_level() -> Tokenizer:
    """Byte-level BPE of 290 tokens; the models have 300 rows. Truncation is on, as in some published files."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.enable_truncation(4)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """A vocabulary in Llama's style: ▁ for a space, byte tokens for what is not in it."""
    pieces = ["<s>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"thecat", "th", "▁th", "▁▁"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("t", "h"), ("▁", "th"), ("▁", "▁")], byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    return tokenizer
