"""Tables for neuron predictability: fits, scores of their predictors, and results of analyses."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prediction_fit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("info", sa.Text(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_prediction_fit_name"), "prediction_fit", ["name"], unique=True)
    op.create_table(
        "prediction_score",
        sa.Column("fit_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.String(length=255), nullable=False),
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("predictor", sa.String(length=32), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("values", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["prediction_fit.id"], name=op.f("fk_prediction_score_fit_id")),
        sa.PrimaryKeyConstraint("fit_id", "text", "layer", "predictor"),
    )
    op.create_table(
        "prediction_result",
        sa.Column("fit_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["prediction_fit.id"], name=op.f("fk_prediction_result_fit_id")),
        sa.PrimaryKeyConstraint("fit_id", "kind", "key"),
    )


def downgrade() -> None:
    op.drop_table("prediction_result")
    op.drop_table("prediction_score")
    op.drop_table("prediction_fit")
