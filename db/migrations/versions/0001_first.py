"""The first schema: an index of neurons, texts, tokens, explanations and scores."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "combination",
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("neuron", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("combination", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_count", sa.BigInteger(), nullable=False),
        sa.Column("mass", sa.Double(), nullable=False),
        sa.Column("tau", sa.Double(), nullable=True),
        sa.Column("statistics", sa.LargeBinary(), nullable=False),
        sa.Column("histogram", sa.LargeBinary(), nullable=False),
        sa.Column("lists", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "neuron", "combination"),
    )
    op.create_table(
        "document",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("split", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "explanation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("neuron", sa.Integer(), nullable=False),
        sa.Column("combination", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("claims_json", sa.Text(), nullable=False),
        sa.Column("evidence_hash", sa.Text(), nullable=False),
        sa.Column("prompt_version", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("unsealed", sa.Boolean(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("superseded_by", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["explanation.id"], name=op.f("fk_explanation_parent_id")),
        sa.ForeignKeyConstraint(["superseded_by"], ["explanation.id"], name=op.f("fk_explanation_superseded_by")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_explanation_layer_neuron_combination"), "explanation", ["layer", "neuron", "combination"], unique=False
    )
    op.create_table(
        "index_info",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "layer",
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("neurons", sa.Integer(), nullable=False),
        sa.Column("first_ordinal", sa.Integer(), nullable=False),
        sa.Column("baselines", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("layer"),
    )
    op.create_table(
        "neuron",
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("neuron", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("cos_gate_in", sa.Double(), nullable=False),
        sa.Column("cos_gate_out", sa.Double(), nullable=False),
        sa.Column("cos_in_out", sa.Double(), nullable=False),
        sa.Column("norm_gate", sa.Double(), nullable=False),
        sa.Column("norm_in", sa.Double(), nullable=False),
        sa.Column("norm_out", sa.Double(), nullable=False),
        sa.Column("io_class", sa.Text(), nullable=False),
        sa.Column("atypical", sa.Boolean(), nullable=False),
        sa.Column("sign", sa.SmallInteger(), nullable=False),
        sa.Column("variance", sa.Double(), nullable=False),
        sa.Column("skew", sa.Double(), nullable=False),
        sa.Column("kurtosis", sa.Double(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("attention_score", sa.Double(), nullable=True),
        sa.Column("attention_head", sa.SmallInteger(), nullable=True),
        sa.Column("entropy_share", sa.Double(), nullable=True),
        sa.Column("double_checking", sa.Double(), nullable=True),
        sa.Column("double_checking_token", sa.Integer(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("zeros", sa.BigInteger(), nullable=True),
        sa.Column("frequency_pp", sa.Double(), nullable=True),
        sa.Column("frequency_pm", sa.Double(), nullable=True),
        sa.Column("frequency_mp", sa.Double(), nullable=True),
        sa.Column("frequency_mm", sa.Double(), nullable=True),
        sa.Column("mass_pp", sa.Double(), nullable=True),
        sa.Column("mass_pm", sa.Double(), nullable=True),
        sa.Column("mass_mp", sa.Double(), nullable=True),
        sa.Column("mass_mm", sa.Double(), nullable=True),
        sa.Column("mass", sa.Double(), nullable=True),
        sa.Column("first_values", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("layer", "neuron"),
    )
    op.create_index(op.f("ix_neuron_io_class_atypical"), "neuron", ["io_class", "atypical"], unique=False)
    op.create_index(op.f("ix_neuron_kurtosis"), "neuron", ["kurtosis"], unique=False)
    op.create_index(op.f("ix_neuron_mass"), "neuron", ["mass"], unique=False)
    op.create_index(op.f("ix_neuron_norm_out"), "neuron", ["norm_out"], unique=False)
    op.create_index(op.f("ix_neuron_ordinal"), "neuron", ["ordinal"], unique=True)
    op.create_index(op.f("ix_neuron_role"), "neuron", ["role"], unique=False)
    op.create_index(op.f("ix_neuron_skew"), "neuron", ["skew"], unique=False)
    op.create_table(
        "neighbour",
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ordinals", sa.LargeBinary(), nullable=False),
        sa.Column("cosines", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ordinal"),
    )
    op.create_table(
        "projection",
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("neuron", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.Column("moments", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "neuron"),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=True),
        sa.Column("norm_unembedding", sa.Float(), nullable=False),
        sa.Column("norm_embedding", sa.Float(), nullable=False),
        sa.Column("count_explain", sa.BigInteger(), nullable=False),
        sa.Column("count_select", sa.BigInteger(), nullable=False),
        sa.Column("count_test", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "token_neuron",
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("token_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("neurons", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "token_id", "segment"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "published_neuron",
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("neuron", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("frequency_pp", sa.Double(), nullable=True),
        sa.Column("frequency_pm", sa.Double(), nullable=True),
        sa.Column("frequency_mp", sa.Double(), nullable=True),
        sa.Column("frequency_mm", sa.Double(), nullable=True),
        sa.Column("statistics", sa.LargeBinary(), nullable=False),
        sa.Column("list_values", sa.LargeBinary(), nullable=False),
        sa.Column("list_texts", sa.LargeBinary(), nullable=False),
        sa.Column("list_positions", sa.LargeBinary(), nullable=True),
        sa.Column("repaired", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "neuron"),
    )
    op.create_table(
        "published_text",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "published_token",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "trace",
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("neuron", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("values", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "neuron", "text_id"),
    )
    op.create_table(
        "score",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("explanation_id", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("negative_set", sa.Text(), nullable=False),
        sa.Column("split", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("lo", sa.Double(), nullable=True),
        sa.Column("hi", sa.Double(), nullable=True),
        sa.Column("n_pos", sa.Integer(), nullable=False),
        sa.Column("n_neg", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("view", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("tau", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("p", sa.Double(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("protocol_version", sa.Text(), nullable=False),
        sa.Column("reading", sa.Integer(), nullable=True),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("superseded_by", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["explanation_id"], ["explanation.id"], name=op.f("fk_score_explanation_id")),
        sa.ForeignKeyConstraint(["superseded_by"], ["score.id"], name=op.f("fk_score_superseded_by")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_score_explanation_id"), "score", ["explanation_id"], unique=False)
    op.create_table(
        "text",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.SmallInteger(), nullable=False),
        sa.Column("first_token", sa.BigInteger(), nullable=False),
        sa.Column("n_tokens", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], name=op.f("fk_text_document_id")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_text_first_token"), "text", ["first_token"], unique=True)
    op.create_table(
        "score_control",
        sa.Column("score_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("lift", sa.Double(), nullable=True),
        sa.Column("lift_lo", sa.Double(), nullable=True),
        sa.Column("lift_hi", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["score_id"], ["score.id"], name=op.f("fk_score_control_score_id")),
        sa.PrimaryKeyConstraint("score_id", "kind"),
    )
