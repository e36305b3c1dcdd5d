"""The index on disk: a SQLite file or a PostgreSQL database. The only package that knows SQL; never torch."""
