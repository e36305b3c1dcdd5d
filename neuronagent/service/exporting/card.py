"""The card of an exported data set, README.md: where the numbers come from, what each column is, how to read it back.

Names of models and corpora are others' words: they are quoted, in YAML as JSON strings and in the text as code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from neuronagent.domain import clip

_COLUMNS = """\
| column | what |
|---|---|
| `layer`, `neuron` | which neuron, both from zero |
| `cos_…`, `norm_…`, `io_class`, `sign` | geometry of the processed weights, IO class, the factor on w_in and w_out |
| `role`, `attention_…`, `entropy_share`, `double_checking…` | functional role and the numbers behind it |
| `tokens`, `zeros`, `position_0` | tokens counted, exact zeros, the four values at position 0 |
| `gate±_in±_freq` | share of tokens in the sign combination |
| `gate±_in±_HOOK_mean` | mean over the combination's tokens; null where there are none |
| `gate±_in±_HOOK_max_values` | the strongest values, each from another text |
| `…_max_indices`, `…_max_positions` | the `text_id` and the position of each |
| `combinations` | counts, Σ\\|post\\|, τ, extremes, histograms, the lists by split and both samples |
| `vocabulary` | nearest and farthest tokens of gate, in and out in W_U and W_E, and moments of the cosines |
| `neighbours` | similar and opposite neurons, readers and writers; null where the index has none |

HOOK is `hook_post` = act(x_gate)·x_in, `hook_pre_linear` = x_in, `hook_pre` = x_gate, `swish` = act(x_gate), as in
GLUScope's data sets. Position 0 (BOS) counts in counts, means and extremes, and is in no list, sample, histogram or
mass. Histogram edges are 2^-10 to 2^6, two per octave, one bin beyond each end.
"""


def card(info: Mapping[str, Any], files: Sequence[str], licence: str | None) -> str:
    """The text of README.md for an index that says `info` of itself; `files` are folders with parquet files."""
    model, corpus = info.get("model", {}), info.get("corpus", {})
    lines = ["---"]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += ["tags:", "- interpretability", "- neurons", "configs:"]
    for name in files:
        lines += [f"- config_name: {name}", f"  data_files: {name}/*.parquet"]
        lines += ["  default: true"] if name == "neurons" else []
    name, source = (_code(str(part.get(key, ""))) for part, key in ((model, "name"), (corpus, "source")))
    facts = {
        "model": f"{name}, revision {_code(str(model.get('revision') or 'not stated'))}",
        "weights": f"{_code(str(model.get('weights_hash', '')))}, {_code(str(model.get('dtype', '')))}",
        "processing": ", ".join(
            f"{said} {_code(str(info.get(key)))}"
            for said, key in (("signs", "sign_convention"), ("post-norm", "post_norm"), ("BOS", "bos"))
        ),
        "texts": f"{source}, {corpus.get('tokens', 0):,} tokens, {corpus.get('texts', 0):,} texts",
        "fingerprint": _code(str(info.get("fingerprint"))),
        "made": f"{_code(str(info.get('created')))} by neuronagent "
        f"{_code(str(info.get('versions', {}).get('neuronagent', '')))}",
    }
    lines += ["---", "", f"# What every neuron of {name} does", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += [
        "",
        "`index_info.json` has all that the index says of itself. The texts are the corpus's, and so is their",
    ]
    lines += ["licence.", "", "## Columns of `neurons`", "", _COLUMNS]
    lines += ["## Reading it", "", "```python", "from datasets import load_dataset", ""]
    lines += ['neurons = load_dataset("THIS/DATASET", "neurons", split="train")', "```", ""]
    lines += ["`neuronagent import hf-activations THIS/DATASET` reads frequencies, means and lists back.", ""]
    return "\n".join(lines)


def _code(text: str) -> str:
    """Untrusted text as code within a table."""
    plain = clip(text, 200).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain.strip() else "–"
