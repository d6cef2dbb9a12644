#!/usr/bin/env python3
"""Statements over scores, answered by DuckDB too: `make sqlfuzz`.

The suite's test `sqlfuzz` writes random statements, the rows that Outskirt gives for them, and a table in which the scores
are columns. DuckDB answers the same statements over that table, and shares none of DataFusion's faults. Rows are compared in
their order where the statement decides it, floats to nine digits. Exit status 1 where an answer differs.

    python3 tests/sqlfuzz.py FOLDER
"""
import json
import math
import sys
from pathlib import Path

try:
    import duckdb
except ImportError:
    sys.exit("this needs DuckDB: pip install duckdb")


def cell(value):
    """A value as the suite writes it."""
    if value is None or isinstance(value, str):
        return value
    return float(value)


def equal(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)
    return one == other


def key(row):
    return [(value is not None, isinstance(value, str), str(value) if isinstance(value, str) else value or 0) for value in row]


def main(folder):
    duck = duckdb.connect()
    duck.execute("SET threads = 1; SET default_null_order = 'nulls_last'")
    duck.execute(f"CREATE TABLE twin AS SELECT * FROM read_parquet('{folder / 'twin.parquet'}')")
    statements = wrong = refused = 0
    for line in (folder / "statements.jsonl").open(encoding="utf-8"):
        case = json.loads(line)
        statements += 1
        try:
            found = duck.execute(case["sql"]).fetchall()
        except duckdb.Error as error:
            refused += 1
            print(f"refused: {case['sql']}\n  {str(error).splitlines()[0]}")
            continue
        expected = [[cell(value) for value in row] for row in found]
        rows = [[cell(value) for value in row] for row in case["rows"]]
        if not case["ordered"]:
            expected.sort(key=key)
            rows.sort(key=key)
        same = len(rows) == len(expected) and all(
            len(one) == len(other) and all(map(equal, one, other)) for one, other in zip(rows, expected))
        if not same:
            wrong += 1
            print(f"{case['sql']}\n-- {len(rows)} rows, DuckDB {len(expected)}")
            first = next((at for at, (a, b) in enumerate(zip(rows, expected)) if not all(map(equal, a, b))), None)
            if first is not None:
                print(f"-- row {first}: {rows[first]}, DuckDB {expected[first]}")
    print(f"{statements} statements, DuckDB {duckdb.__version__}: {refused} refused by it, {wrong} answered otherwise")
    return wrong > 0 or refused * 20 > statements


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
