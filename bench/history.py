"""Fills a database with jobs that have ended and jobs that wait: by SQL, without the queue."""

from typing import Any

from sqlalchemy import text

from atelier.database import Database

# A number in hexadecimal digits of one length, so that ids grow as UUIDs of version 7 do.
_ID = {
    "sqlite": "printf('%08x-bench', {})",
    "postgresql": "lpad(to_hex({}), 8, '0') || '-bench'",
    "mysql": "concat(lpad(hex({}), 8, '0'), '-bench')",
}
_NUMBERS = {
    "sqlite": "WITH RECURSIVE number(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number"
    " WHERE n < :last) SELECT {} FROM number",
    "postgresql": "SELECT {} FROM generate_series(CAST(:first AS BIGINT), CAST(:last AS BIGINT))"
    " AS number(n)",
    "mysql": "WITH RECURSIVE number(n) AS (SELECT CAST(:first AS SIGNED) UNION ALL SELECT n + 1"
    " FROM number WHERE n < :last) SELECT {} FROM number",
}
AT_ONCE = 50_000
NOW_MS = 1_800_000_000_000

_FINISHED: dict[str, str] = {
    "seq": f"{NOW_MS}000 + n",
    "precedence": "0",
    "status": "'succeeded'",
    "user_id": "'user'",
    "workflow": "'inline'",
    "variant": "'inline'",
    "requirement": "'bench'",
    "weight": "1",
    "attempts": "1",
    "max_attempts": "3",
    "run_after_ms": f"{NOW_MS}",
    "lease": "1",
    "worker": "'bench'",
    "instance": "'bench'",
    "cancel_requested": "{false}",
    "percent": "100",
    "created_at_ms": f"{NOW_MS}",
    "started_at_ms": f"{NOW_MS}",
    "finished_at_ms": f"{NOW_MS}",
    "updated_at_ms": f"{NOW_MS}",
}
_DETAILS = {
    "workflow_version": "'1'",
    "dialect": "'native'",
    "inputs": "'{{}}'",
    "metadata": "'{{}}'",
    "outputs": "'[]'",
}


async def finished(database: Database, first: int, count: int) -> None:
    """Add ``count`` jobs that have ended, numbered from ``first``."""
    dialect = database.dialect
    id = _ID[dialect].format("n")
    false = "FALSE" if dialect == "postgresql" else "0"
    jobs = _statement(dialect, "jobs", {"id": id, **_FINISHED}, false)
    details = _statement(dialect, "job_details", {"job_id": id, **_DETAILS}, false)
    for start in range(first, first + count, AT_ONCE):
        last = min(start + AT_ONCE, first + count) - 1
        async with database.transaction(durable=False, timeout_seconds=60) as conn:
            if getattr(conn.dialect, "is_mariadb", False):
                await conn.execute(text(f"SET SESSION max_recursive_iterations = {AT_ONCE + 1}"))
            elif dialect == "mysql":
                await conn.execute(text(f"SET SESSION cte_max_recursion_depth = {AT_ONCE + 1}"))
            for statement in (jobs, details):
                await conn.execute(text(statement), {"first": start, "last": last})


async def settle(database: Database) -> None:
    """What the server's own housekeeping would have done by now: statistics, dead rows."""
    async with database.read() as conn:
        if database.dialect == "postgresql":
            await conn.execute(text("VACUUM ANALYZE"))
        elif database.dialect == "mysql":
            await conn.execute(text("ANALYZE TABLE jobs, job_details"))
    if database.dialect == "sqlite":
        async with database.transaction() as conn:
            await conn.execute(text("ANALYZE"))


def _statement(dialect: str, table: str, values: dict[str, Any], false: str) -> str:
    chosen = ", ".join(values.values()).format(false=false)
    return f"INSERT INTO {table} ({', '.join(values)}) " + _NUMBERS[dialect].format(chosen)
