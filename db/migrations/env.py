"""What Alembic runs: the migrations of an index, on the connection that `neuronagent.store.migrate` hands over."""

from alembic import context

from neuronagent.store.schema import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `neuronagent upgrade INDEX` instead of alembic itself")

context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite cannot alter a table in place: batch operations copy it.
    render_as_batch=True,
    # `alembic_version` is a table of the metadata like any other, so that an index can be created without Alembic.
    version_table="alembic_version",
)
with context.begin_transaction():
    context.run_migrations()
