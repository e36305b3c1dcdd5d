"""The tables of an index, the same for SQLite and PostgreSQL.

One row per neuron and combination, with its lists packed into blobs (`packing.py`): a 7B model has 352,256 neurons ×
12 lists × 16 entries, which as rows would be hundreds of gigabytes. What a search filters or sorts by is a column.

A neuron's **ordinal** is its place in the index, layers in the order in which they were written: layer · d_mlp + index
where all layers are equally wide. The inverted table names neurons by it. The narrow `neuron` table is kept apart from
the wide `projection` table, because a search without an index to help it reads all of `neuron`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

SCHEMA_REVISION = "0004"
"""The newest Alembic revision; `db/migrations/versions` ends with it, and `alembic_version` of an index holds it."""

COMBINATION_SUFFIXES = ("pp", "pm", "mp", "mm")
"""Column suffixes in the order of `domain.COMBINATIONS`: p for plus, m for minus, gate before in."""

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "fk": "fk_%(table_name)s_%(column_0_N_name)s"}
)

# As Alembic itself would create it; here, so that an index can be created without loading Alembic.
alembic_version = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

index_info = Table(
    "index_info",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
)

layer = Table(
    "layer",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neurons", Integer, nullable=False),
    Column("first_ordinal", Integer, nullable=False),
    Column("baselines", Text, nullable=False),  # JSON, domain.CosineBaseline by the cosine's name
)

token = Table(
    "token",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary),  # null: the tokenizer cannot decode this id
    Column("norm_unembedding", Float, nullable=False),
    Column("norm_embedding", Float, nullable=False),
    Column("count_explain", BigInteger, nullable=False),
    Column("count_select", BigInteger, nullable=False),
    Column("count_test", BigInteger, nullable=False),
)

document = Table(
    "document",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("split", SmallInteger, nullable=False),  # place in domain.SPLITS
)

text = Table(
    "text",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("document_id", Integer, ForeignKey("document.id"), nullable=False),
    Column("split", SmallInteger, nullable=False),
    Column("first_token", BigInteger, nullable=False),  # corpus token number of position 0
    Column("n_tokens", Integer, nullable=False),
    Column("tokens", LargeBinary, nullable=False),
    Index(None, "first_token", unique=True),
)

neuron = Table(
    "neuron",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neuron", Integer, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, nullable=False),
    Column("cos_gate_in", Double, nullable=False),
    Column("cos_gate_out", Double, nullable=False),
    Column("cos_in_out", Double, nullable=False),
    Column("norm_gate", Double, nullable=False),
    Column("norm_in", Double, nullable=False),
    Column("norm_out", Double, nullable=False),
    Column("io_class", Text, nullable=False),  # without "atypical"
    Column("atypical", Boolean(create_constraint=False), nullable=False),
    Column("sign", SmallInteger, nullable=False),
    # Moments of cos(w_out, W_U) over the vocabulary; role as in domain.Role, null for none or not known.
    Column("variance", Double, nullable=False),
    Column("skew", Double, nullable=False),
    Column("kurtosis", Double, nullable=False),
    Column("role", Text),
    Column("attention_score", Double),
    Column("attention_head", SmallInteger),
    Column("entropy_share", Double),
    Column("double_checking", Double),
    Column("double_checking_token", Integer),
    # The rest is null in an index of weights alone.
    Column("tokens", BigInteger),
    Column("zeros", BigInteger),
    *(Column(f"frequency_{suffix}", Double) for suffix in COMBINATION_SUFFIXES),
    *(Column(f"mass_{suffix}", Double) for suffix in COMBINATION_SUFFIXES),
    Column("mass", Double),  # Σ|post| over all combinations; the four above are shares of it
    Column("first_values", LargeBinary),
    Index(None, "ordinal", unique=True),
    Index(None, "io_class", "atypical"),
    # A column of its own for each order in which the papers choose neurons: sorting the whole table takes too long.
    *(Index(None, name) for name in ("role", "kurtosis", "skew", "norm_out", "mass")),
)

neighbour = Table(
    "neighbour",
    metadata,
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("ordinals", LargeBinary, nullable=False),
    Column("cosines", LargeBinary, nullable=False),
)

projection = Table(
    "projection",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neuron", Integer, primary_key=True, autoincrement=False),
    Column("ids", LargeBinary, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("moments", LargeBinary, nullable=False),
)

combination = Table(
    "combination",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neuron", Integer, primary_key=True, autoincrement=False),
    Column("combination", SmallInteger, primary_key=True, autoincrement=False),  # place in domain.COMBINATIONS
    Column("count", BigInteger, nullable=False),
    Column("first_count", BigInteger, nullable=False),
    Column("mass", Double, nullable=False),
    Column("tau", Double),
    Column("statistics", LargeBinary, nullable=False),
    Column("histogram", LargeBinary, nullable=False),
    Column("lists", LargeBinary, nullable=False),
)

token_neuron = Table(
    "token_neuron",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),  # place in inverted.KINDS
    Column("token_id", Integer, primary_key=True, autoincrement=False),
    # A writer that inverts a large model flushes its memory several times: one segment per flush.
    Column("segment", SmallInteger, primary_key=True, autoincrement=False),
    Column("neurons", LargeBinary, nullable=False),
    sqlite_with_rowid=False,  # half a million small rows: a second tree for the key would double them
)

trace = Table(
    "trace",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neuron", Integer, primary_key=True, autoincrement=False),
    Column("text_id", Integer, primary_key=True, autoincrement=False),
    Column("start", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
)

# Tokens at which a neuron was run for scoring: values at single tokens of many texts, one row per neuron.
traced_tokens = Table(
    "traced_tokens",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neuron", Integer, primary_key=True, autoincrement=False),
    Column("numbers", LargeBinary, nullable=False),
    Column("values", LargeBinary, nullable=False),
    Column("sets", Text, nullable=False),  # JSON, explain.traced.TracedTokens.sets
    Column("plan_version", Text, nullable=False),
)

# An index of numbers that were published elsewhere keeps them in tables of their own; those of computed numbers above
# then stay empty.
published_text = Table(
    "published_text",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("tokens", LargeBinary, nullable=False),
)

published_token = Table(
    "published_token",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

published_neuron = Table(
    "published_neuron",
    metadata,
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("neuron", Integer, primary_key=True, autoincrement=False),
    *(Column(f"frequency_{suffix}", Double) for suffix in COMBINATION_SUFFIXES),
    Column("statistics", LargeBinary, nullable=False),
    Column("list_values", LargeBinary, nullable=False),
    Column("list_texts", LargeBinary, nullable=False),
    Column("list_positions", LargeBinary),  # null: none is known
    Column("repaired", Text, nullable=False),  # JSON, names of what came with the other sign
)

explanation = Table(
    "explanation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("layer", Integer, nullable=False),
    Column("neuron", Integer, nullable=False),
    Column("combination", SmallInteger, nullable=False),
    Column("source", String(16), nullable=False),  # rule, llm, agent or human
    Column("author", Text),
    Column("text", Text, nullable=False),
    Column("claims_json", Text, nullable=False),
    Column("evidence_hash", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("unsealed", Boolean(create_constraint=False), nullable=False),  # its writer may have seen `test`
    Column("parent_id", Integer, ForeignKey("explanation.id")),
    Column("created", String(32), nullable=False),  # UTC, ISO 8601
    Column("superseded_by", Integer, ForeignKey("explanation.id")),
    Index(None, "layer", "neuron", "combination"),
)

score = Table(
    "score",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("explanation_id", Integer, ForeignKey("explanation.id"), nullable=False),
    Column("metric", Text, nullable=False),
    Column("negative_set", Text, nullable=False),
    Column("split", SmallInteger, nullable=False),
    Column("value", Double),
    Column("lo", Double),
    Column("hi", Double),
    Column("n_pos", Integer, nullable=False),
    Column("n_neg", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False),
    Column("view", Text, nullable=False),
    Column("judge", Text, nullable=False),
    Column("tau", Double),
    Column("reason", Text),
    Column("p", Double),
    Column("seed", BigInteger, nullable=False),
    Column("protocol_version", Text, nullable=False),
    Column("reading", Integer),  # the how-manieth reading of the unit's `test` items; null for other splits
    Column("created", String(32), nullable=False),
    Column("superseded_by", Integer, ForeignKey("score.id")),
    Index(None, "explanation_id"),
)

score_control = Table(
    "score_control",
    metadata,
    Column("score_id", Integer, ForeignKey("score.id"), primary_key=True, autoincrement=False),
    Column("kind", String(64), primary_key=True),
    Column("value", Double),
    Column("lift", Double),
    Column("lift_lo", Double),
    Column("lift_hi", Double),
)

# Every answer of a language model's server that was paid for: a question is never asked twice.
llm_item = Table(
    "llm_item",
    metadata,
    Column("request_hash", String(64), primary_key=True),  # sha256 of the canonical request
    Column("purpose", String(32), nullable=False),
    Column("status", String(16), nullable=False),  # explain.judging.Status
    Column("response", Text, nullable=False),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cost", Double),
    Column("latency", Double),
    Column("attempt", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("created", String(32), nullable=False),
    sqlite_with_rowid=False,
)

judge_check = Table(
    "judge_check",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("auroc", Double),  # the least over the concepts; null where it could not be scored
    Column("passed", Boolean(create_constraint=False), nullable=False),
    Column("details", Text, nullable=False),  # JSON, a row per concept
    Column("created", String(32), nullable=False),
    Index(None, "model", "server", "prompt_version"),
)

# What the agent supposed of a neuron: written with its prediction before the model was run, never deleted.
hypothesis = Table(
    "hypothesis",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", String(64), nullable=False),  # sha256 of all that the run depends on
    Column("round", Integer, nullable=False),
    Column("place", Integer, nullable=False),  # in its round
    Column("layer", Integer, nullable=False),
    Column("neuron", Integer, nullable=False),
    Column("combination", SmallInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("claims_json", Text, nullable=False),
    Column("prediction_json", Text, nullable=False),
    Column("outcome_json", Text),  # null until the model was run
    Column("status", String(16), nullable=False),  # explain.hypothesis.Fate
    Column("model", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("prompt_version", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("tested", String(32)),
    Index(None, "layer", "neuron"),
    Index(None, "run", "round", "place", unique=True),
)

# Maps from layer to layer (their files lie beside the index), what they foretell, and what was found with them.
prediction_fit = Table(
    "prediction_fit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("info", Text, nullable=False),  # JSON, service.predict.fits.FitInfo
    Column("created", String(32), nullable=False),
    Index(None, "name", unique=True),
)

# A row per predictor of a layer, for all its neurons at once: a 7B model has 256 pairs of 11,008 neurons.
prediction_score = Table(
    "prediction_score",
    metadata,
    Column("fit_id", Integer, ForeignKey("prediction_fit.id"), primary_key=True, autoincrement=False),
    Column("text", String(255), primary_key=True),  # predictability.OWN_TEST, or the source
    Column("layer", Integer, primary_key=True, autoincrement=False),
    Column("predictor", String(32), primary_key=True),
    Column("about", Text, nullable=False),  # JSON: tokens, documents; before the values, which are long to read over
    Column("values", LargeBinary, nullable=False),  # float32 [N, len(predictability.COLUMNS)]
)

prediction_result = Table(
    "prediction_result",
    metadata,
    Column("fit_id", Integer, ForeignKey("prediction_fit.id"), primary_key=True, autoincrement=False),
    Column("kind", String(32), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("created", String(32), nullable=False),
)

KEPT_TABLES = (
    explanation,
    score,
    score_control,
    llm_item,
    judge_check,
    hypothesis,
    prediction_fit,
    prediction_score,
    prediction_result,
)
"""What people, servers and long computations worked for: building an index again must not lose these rows."""


def schema_sql() -> str:
    """The statements that create every table and index in SQLite, in the order of their dependencies."""
    dialect = sqlite.dialect()
    statements: list[str] = []
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)) for index in indexes)
    lines = (line.rstrip() for statement in statements for line in f"{statement.strip()};".splitlines())
    return "\n".join(lines).replace(";\n", ";\n\n").replace("\t", "    ") + "\n"
