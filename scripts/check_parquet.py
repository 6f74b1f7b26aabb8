#!/usr/bin/env python3
"""Compare a Parquet file of `stoker predict` with the CSV file of the same predictions and columns, cell by cell.

    pip install -r scripts/requirements.txt pyarrow
    stoker predict --input photos --output rows.csv && stoker predict --input photos --output rows.parquet
    python scripts/check_parquet.py rows.parquet rows.csv

Prints one line that starts with `OK`, or the first cell that differs, and exits with 1. `pyarrow` reads the Parquet file.
`crates/inference/src/table/fixtures/all_columns.parquet` was read so; the test beside it has its CSV.
"""

import csv
import sys

import numpy as np
import pyarrow.parquet


def main(parquet_path: str, csv_path: str) -> int:
    file = pyarrow.parquet.ParquetFile(parquet_path)
    table = file.read()
    with open(csv_path, newline="", encoding="utf-8") as text:
        header, *rows = csv.reader(text)
    if table.column_names != header or table.num_rows != len(rows):
        print(f"error: columns or rows differ: {table.column_names}, {table.num_rows} and {header}, {len(rows)}")
        return 1
    for name, column in zip(header, table.columns):
        for number, (found, row) in enumerate(zip(column.to_pylist(), rows)):
            expected = row[header.index(name)]
            if not is_same(found, expected):
                print(f"error: row {number}, `{name}`: {found!r} and {expected!r}")
                return 1
    print(f"OK: {len(rows)} rows of {len(header)} columns in {file.num_row_groups} groups are the same")
    return 0


def is_same(found: object, expected: str) -> bool:
    if found is None:
        return expected == ""
    if isinstance(found, float):
        # Both are the same `f32`.
        return np.float32(found) == np.float32(expected)
    return str(found) == expected


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
