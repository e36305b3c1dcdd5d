"""The values that the rest of the program talks in: neurons, sign combinations, classes, examples, scores.

Plain frozen values without I/O and without third-party imports, so that every layer can share them at no cost.
Words and formulas are those of the IO-functionality paper and of GLUScope: a neuron computes
`post = act(x_gate) · x_in` with `x_gate = w_gate·x`, `x_in = w_in·x`, and writes `post · w_out`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from neuronagent.errors import UsageError

_NEURON = re.compile(r"(?:L|blocks\.)?(\d{1,6})(?:\.mlp)?(?:\.N?|N)(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class NeuronId:
    """One hidden unit of a gated MLP, `layer.index`, both from zero: `31.9634`."""

    layer: int
    index: int

    @classmethod
    def parse(cls, text: str) -> NeuronId:
        """Read `31.9634`, and the forms that other tools print: `L31.N9634`, `L31N9634`, `blocks.31.mlp.9634`.

        Raises:
            UsageError: anything else.
        """
        match = _NEURON.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"{clip(text)!r} is not a neuron", remedy="write layer.index, both from zero, such as 31.9634"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.layer}.{self.index}"


def clip(text: str, length: int = 60) -> str:
    """`text` for an error line: without control characters, at most `length` characters."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= length else clean[: length - 1] + "…"


def finite(value: Any) -> Any:
    """`value` as JSON can hold it: None for every number in it that is not finite, keys as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in cast(Mapping[Any, Any], value).items()}
    return [finite(each) for each in cast(Sequence[Any], value)] if isinstance(value, list | tuple) else value


def token_text(data: bytes | None) -> str:
    """A token for human eyes: bytes that are no UTF-8 on their own are shown as `\\xe2`; undecodable ids as nothing."""
    return "" if data is None else data.decode("utf-8", errors="backslashreplace")


class Quantity(Enum):
    """The four numbers of a neuron at a token; `act` is `act(x_gate)`."""

    POST = "post"
    X_IN = "x_in"
    X_GATE = "x_gate"
    ACT = "act"


LISTED: tuple[Quantity, ...] = (Quantity.POST, Quantity.X_IN, Quantity.X_GATE)
"""The quantities that have top lists; `act` saturates at its minimum in gate−, so its lists would be ties."""


class SignCombination(Enum):
    """The strict signs of (x_gate, x_in) at a token; a token with an exact zero belongs to none."""

    GATE_POS_IN_POS = "gate+_in+"
    GATE_POS_IN_NEG = "gate+_in-"
    GATE_NEG_IN_POS = "gate-_in+"
    GATE_NEG_IN_NEG = "gate-_in-"

    @property
    def gate_sign(self) -> int:
        return 1 if self.value[4] == "+" else -1

    @property
    def in_sign(self) -> int:
        return 1 if self.value[8] == "+" else -1

    @property
    def write_sign(self) -> int:
        """The sign of `post`: +1 where `+w_out` is written, −1 where `−w_out` is."""
        return self.gate_sign * self.in_sign

    def sign(self, quantity: Quantity) -> int:
        """The sign that `quantity` has in this combination, and so the direction of its top list."""
        if quantity is Quantity.POST:
            return self.write_sign
        return self.in_sign if quantity is Quantity.X_IN else self.gate_sign

    @property
    def position(self) -> int:
        """Its place, 0–3, in every array that has an axis of combinations."""
        return COMBINATIONS.index(self)

    @classmethod
    def parse(cls, text: str) -> SignCombination:
        """Read `gate+_in-`, `gate+ in−` or `+-`.

        Raises:
            UsageError: anything else.
        """
        plain = text.strip().lower().replace("−", "-").replace("gate", "").replace("in", "")
        plain = plain.replace("_", "").replace(" ", "").replace(",", "")
        for member in cls:
            if plain == f"{member.value[4]}{member.value[8]}":
                return member
        raise UsageError(
            f"{clip(text)!r} is not a sign combination", remedy=f"allowed: {', '.join(m.value for m in cls)}"
        )


COMBINATIONS: tuple[SignCombination, ...] = tuple(SignCombination)
QUANTITIES: tuple[Quantity, ...] = tuple(Quantity)


class Split(Enum):
    """What a document may be used for: writing explanations, choosing among them, or scoring them."""

    EXPLAIN = "explain"
    SELECT = "select"
    TEST = "test"

    @property
    def position(self) -> int:
        """Its place, 0–2, in every array that has an axis of splits."""
        return SPLITS.index(self)


SPLITS: tuple[Split, ...] = tuple(Split)


class View(Enum):
    """How much of a text is shown round a marked token: up to it (what the model had seen there), or also beyond it."""

    CAUSAL = "causal"
    FULL = "full"


class Vector(Enum):
    """The three weight vectors of a gated neuron."""

    GATE = "gate"
    IN = "in"
    OUT = "out"


VECTORS: tuple[Vector, ...] = tuple(Vector)


class VocabularyMatrix(Enum):
    """What a weight vector is projected on: the unembedding (processed) or the embedding."""

    UNEMBEDDING = "W_U"
    EMBEDDING = "W_E"


VOCABULARY_MATRICES: tuple[VocabularyMatrix, ...] = tuple(VocabularyMatrix)

_CLASS_SYNONYMS = {"strengthening": "enrichment", "weakening": "depletion"}


@dataclass(frozen=True)
class IOClass:
    """The input-output class of a neuron (IO-functionality paper, section 4.2), one of eleven labels."""

    name: str
    atypical: bool = False

    def __str__(self) -> str:
        return f"atypical {self.name}" if self.atypical else self.name

    @property
    def manipulates_input(self) -> bool:
        """Whether it writes along what it detects (*input manipulator*): every class but orthogonal output."""
        return self.name != "orthogonal output"

    @classmethod
    def parse(cls, text: str) -> IOClass:
        """Read a label; the paper's later names *strengthening* and *weakening* are accepted.

        Raises:
            UsageError: a class that does not exist.
        """
        words = text.strip().lower().replace("-", " ").replace("_", " ")
        for old, new in _CLASS_SYNONYMS.items():
            words = words.replace(old, new)
        for label in IO_CLASSES:
            if words == str(label):
                return label
        raise UsageError(f"{clip(text)!r} is no IO class", remedy=f"allowed: {', '.join(map(str, IO_CLASSES))}")


IO_CLASS_THRESHOLD = 0.5
"""τ of the IO classes: two vectors are aligned if their |cosine| is above it (IO-functionality paper, section 4.2)."""

IO_CLASS_NAMES: tuple[str, ...] = (
    "enrichment",
    "conditional enrichment",
    "proportional change",
    "orthogonal output",
    "conditional depletion",
    "depletion",
)
IO_CLASSES: tuple[IOClass, ...] = tuple(
    IOClass(name, atypical)
    for name in IO_CLASS_NAMES
    for atypical in (False, True)
    if not (atypical and name == "orthogonal output")
)


class Role(Enum):
    """The functional role of a neuron (Gurnee et al. 2024, adapted to gated neurons; definitions in `index.roles`)."""

    PREDICTION = "prediction"
    SUPPRESSION = "suppression"
    PARTITION = "partition"
    ENTROPY = "entropy"
    ATTENTION_ACTIVATION = "attention activation"
    ATTENTION_DEACTIVATION = "attention deactivation"

    @classmethod
    def parse(cls, text: str) -> Role:
        """Read a role's name.

        Raises:
            UsageError: a role that does not exist.
        """
        words = text.strip().lower().replace("-", " ").replace("_", " ")
        for role in cls:
            if words == role.value:
                return role
        raise UsageError(
            f"{clip(text)!r} is no functional role", remedy=f"allowed: {', '.join(role.value for role in cls)}"
        )


ROLES: tuple[Role, ...] = tuple(Role)


@dataclass(frozen=True, kw_only=True)
class RoleThresholds:
    """What separates the neurons with a functional role from the others, found per model (`index.roles`).

    `partition_variance` is the lowest variance among the `partition_neurons`; prediction and suppression neurons lie
    above `kurtosis`; entropy neurons above both `entropy_outlier` (Q3 + 3 IQR of the last layer; None without W_U) and
    `entropy_share`, in `entropy_dimensions` dimensions; attention neurons above `attention` in absolute value.
    `attention_reason` says why a model has no attention scores.
    """

    partition_neurons: int
    partition_variance: float
    kurtosis: float
    entropy_dimensions: int | None
    entropy_outlier: float | None
    entropy_share: float
    attention: float
    attention_reason: str | None


@dataclass(frozen=True, kw_only=True)
class RoleRecord:
    """A neuron's functional role, None for none, and the numbers behind it, None where they do not exist.

    `attention_score`: of its cosines with W_Q[h]·k_h(BOS) over the heads h of the next layer, the one of largest
    magnitude, and that head; `entropy_share`: share of ‖w_out‖ in W_U's null space (last layer); `double_checking`: the
    largest min(|cos(gate,u)|, |cos(in,u)|) over the tokens u of W_U, and that token. Variance, skew and kurtosis of
    cos(w_out, W_U) are those of the vocabulary projection.
    """

    role: Role | None = None
    attention_score: float | None = None
    attention_head: int | None = None
    entropy_share: float | None = None
    double_checking: float | None = None
    double_checking_token: str | None = None


class NeighbourList(Enum):
    """The lists of neighbours that a neuron has. Similarity is a cosine of the same vector of two neurons; composition
    one of an earlier neuron's `w_out` with a later layer's `w_gate` or `w_in`."""

    SIMILAR_OUT = "similar_out"
    SIMILAR_GATE = "similar_gate"
    SIMILAR_IN = "similar_in"
    OPPOSITE_OUT = "opposite_out"
    OPPOSITE_GATE = "opposite_gate"
    OPPOSITE_IN = "opposite_in"
    READERS_GATE = "readers_gate"
    READERS_IN = "readers_in"
    WRITERS_GATE = "writers_gate"
    WRITERS_IN = "writers_in"

    @property
    def position(self) -> int:
        """Its place, 0–9, in every array that has an axis of lists."""
        return NEIGHBOUR_LISTS.index(self)


NEIGHBOUR_LISTS: tuple[NeighbourList, ...] = tuple(NeighbourList)


@dataclass(frozen=True)
class Neighbour:
    """Another neuron and its cosine, which an index keeps to 1/32767."""

    neuron: NeuronId
    cosine: float


Neighbours = Mapping[NeighbourList, tuple[Neighbour, ...]]
"""The neighbours of one neuron by list, strongest first."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Cosines and Euclidean norms of a neuron's processed weights, in the index's sign convention."""

    cos_gate_in: float
    cos_gate_out: float
    cos_in_out: float
    norm_gate: float
    norm_in: float
    norm_out: float


@dataclass(frozen=True, kw_only=True)
class CosineBaseline:
    """What a cosine of unrelated vectors looks like in a layer.

    `gaussian`: 2.5 % and 97.5 % quantiles for Gaussian vectors of d_model dimensions; `mismatched`: the same of
    cos(v1_i, v2_j), i ≠ j, in this layer; `mismatched_absolute`: the 95 % quantile of its absolute value.
    """

    gaussian: tuple[float, float]
    mismatched: tuple[float, float]
    mismatched_absolute: float


COSINES: tuple[str, ...] = ("cos_gate_in", "cos_gate_out", "cos_in_out")
"""The cosines of a `Geometry`, in the order in which they are stored."""
EITHER_SIGN = frozenset({"cos_gate_in", "cos_gate_out"})
"""Cosines whose sign is a convention, since gate and in, or in and out, may be turned round together."""


def chance(cosine: str, baseline: CosineBaseline) -> tuple[float, float]:
    """Where 95 % of the mismatched pairs of a layer have this cosine; one of `EITHER_SIGN` is taken without its sign,
    so that the band lies on both sides of 0. A layer without mismatched pairs has that of Gaussian vectors."""
    limit = baseline.mismatched_absolute
    if not math.isfinite(limit):
        return baseline.gaussian
    return (-limit, limit) if cosine in EITHER_SIGN else baseline.mismatched


@dataclass(frozen=True, kw_only=True)
class VocabularyEntry:
    """A token and its dot product and cosine with a weight vector."""

    token_id: int
    token: str
    score: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class VocabularyProjection:
    """The tokens nearest to `+v` (`top`) and `−v` (`bottom`), and the moments of cos(v, token) over all tokens."""

    top: tuple[VocabularyEntry, ...]
    bottom: tuple[VocabularyEntry, ...]
    variance: float
    skew: float
    kurtosis: float


@dataclass(frozen=True)
class ListEntry:
    """A value at a token of the corpus, named by its corpus token number."""

    value: float
    token_number: int


@dataclass(frozen=True)
class QuantityStatistics:
    """Mean and extremes of a quantity over the tokens of one combination; `None` where there is no token."""

    mean: float | None
    min: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True)
class CombinationRecord:
    """All that an index holds of one neuron in one sign combination.

    `count`, `statistics` include position 0; `first_count` says how many of the counted tokens are at position 0;
    `mass` (Σ|post|), `histogram`, `tau`, lists and samples leave it out.
    """

    combination: SignCombination
    count: int
    first_count: int
    statistics: Mapping[Quantity, QuantityStatistics]
    mass: float
    tau: float | None
    histogram: Mapping[Split, tuple[int, ...]]
    top: Mapping[Quantity, tuple[ListEntry, ...]]
    post_by_split: Mapping[Split, tuple[ListEntry, ...]]
    uniform: Mapping[Split, tuple[ListEntry, ...]]
    weighted: Mapping[Split, tuple[ListEntry, ...]]


@dataclass(frozen=True, kw_only=True)
class NeuronRecord:
    """All that an index holds of one neuron, apart from explanations.

    `sign` is the factor (+1 or −1) by which w_in and w_out were multiplied (`normalised`), +1 under `raw`;
    `first_values` are (x_gate, x_in, act, post) at position 0, `None` where texts do not share their first token.
    """

    neuron: NeuronId
    geometry: Geometry
    io_class: IOClass
    role: RoleRecord = RoleRecord()
    sign: int
    vocabulary: Mapping[VocabularyMatrix, Mapping[Vector, VocabularyProjection]]
    tokens: int
    zeros: int
    first_values: Mapping[Quantity, float] | None
    combinations: Mapping[SignCombination, CombinationRecord]

    def frequency(self, combination: SignCombination) -> float:
        """Share of all counted tokens in `combination`."""
        return self.combinations[combination].count / self.tokens if self.tokens else 0.0

    def mass_share(self, combination: SignCombination) -> float:
        """Share of the neuron's output mass, Σ|post| without position 0, written in `combination`."""
        total = sum(record.mass for record in self.combinations.values())
        return self.combinations[combination].mass / total if total else 0.0


@dataclass(frozen=True, kw_only=True)
class Text:
    """A chunk of a document, the unit that the model reads: its split and token ids, BOS included."""

    text_id: int
    document: str
    split: Split
    first_token: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A text about what makes a neuron fire in one combination; `claims` is what a program can check of it."""

    neuron: NeuronId
    combination: SignCombination
    source: str
    text: str
    claims: Mapping[str, object]
    evidence_hash: str
    prompt_version: str = ""
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreControl:
    """The same score of something that should not explain the neuron; lift = score − control, with its interval."""

    kind: str
    value: float | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of one explanation with its interval; `value` is `None` exactly where `reason` says why."""

    metric: str
    negative_set: str
    split: Split
    value: float | None
    lo: float | None
    hi: float | None
    n_pos: int
    n_neg: int
    reason: str | None = None
    p: float | None = None
    seed: int = 0
    view: str = "causal"
    judge: str = "rule"
    n_failed: int = 0
    controls: tuple[ScoreControl, ...] = ()


def judge_name(model: str, server: str, kind: str) -> str:
    """What the scores of a judge call it: which model, where, and how it is asked."""
    return f"{model} @ {server} ({kind})"
