"""What alembic runs: the migrations, on the connection (and in the transaction) that `store.schema` hands over."""

from alembic import context

from store.columns import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by building it anew
)
context.run_migrations()
