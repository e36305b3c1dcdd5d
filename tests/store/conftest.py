"""Fixtures for the store: the same tests run on a SQLite file and on a real PostgreSQL server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from neuronagent.store.reader import IndexReader
from tests.store.made_index import Made, make_index


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the tests; skips where it cannot start."""
    pgserver = pytest.importorskip("pgserver")
    with tempfile.TemporaryDirectory(prefix="neuronagent-pg", ignore_cleanup_errors=True) as folder:
        # As root the server runs as a user of its own, who must be able to reach the folder.
        Path(folder).chmod(0o755)
        try:
            server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        except Exception as error:  # noqa: BLE001 - whatever keeps it from starting, these tests cannot run
            pytest.skip(f"no PostgreSQL here: {error}")
        engine = create_engine(server.get_uri(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            # Nothing here has to survive a crash, and waiting for the disk would take most of the time.
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql(postgresql_server: str) -> str:
    """A URL that leads to a new, empty schema."""
    name = f"test_{uuid4().hex}"
    engine = create_engine(postgresql_server)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    engine.dispose()
    url = make_url(postgresql_server).update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an index can be written: a path that does not exist yet, or an empty database."""
    return str(tmp_path / "made.db") if request.param == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture
def made() -> Made:
    return make_index()


@pytest.fixture
def reader(target: str, made: Made) -> Iterator[IndexReader]:
    """A reader of `made`, written to either database."""
    made.write(target)
    with IndexReader.open(target) as opened:
        yield opened


@pytest.fixture
def index_file(tmp_path: Path, made: Made) -> Path:
    """`made` as a SQLite file."""
    path = tmp_path / "made.db"
    made.write(path)
    return path


@pytest.fixture
def as_ordinary_user(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A function after whose call permissions count, even if the tests run as root; undone when the test ends."""
    if os.geteuid() != 0:
        yield lambda: None
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()) or folder == Path("/"):
            break
        folder.chmod(folder.stat().st_mode | 0o055)
    try:
        yield lambda: os.seteuid(65534)
    finally:
        os.seteuid(0)
