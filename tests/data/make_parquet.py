#!/usr/bin/env python3
"""Makes the parquet files of this folder: `make_parquet.py`. Needs pyarrow and pandas (26.0.1 and 3.1.1 made them).

The same two conversations in two layouts and three compressions, so that a reader is tested on what others write.
"""

import pandas
import pyarrow
import pyarrow.parquet

PAIRS = [("What is 2 and 3?", "It is 5."), ("Sag \"Grüße\",\nbitte.", "Grüße 😀")]

for packing in ("none", "snappy", "gzip", "zstd"):
    table = pyarrow.table({"question": [q for q, _ in PAIRS], "id": [1, 2], "answer": [a for _, a in PAIRS]})
    pyarrow.parquet.write_table(table, f"pairs-{packing}.parquet", compression=packing)

turns = [
    [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in PAIRS
]
pandas.DataFrame({"messages": turns, "score": [0.5, None]}).to_parquet("messages-pandas.parquet")
kind = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
table = pyarrow.table({"messages": pyarrow.array(turns, kind)})
pyarrow.parquet.write_table(table, "messages-zstd.parquet", compression="zstd", row_group_size=1)
table = pyarrow.table({"question": ["a", "b"], "answer": [1, 2]})
pyarrow.parquet.write_table(table, "numbers.parquet")

# A kilobyte or ten that become gigabytes: a list of nulls, and a page of one letter.
nulls = pyarrow.array([[None] * 20_000_000, []], pyarrow.list_(pyarrow.int8()))
pairs = {"prompt": ["a", "b"], "completion": ["c", "d"]}
for column in ("junk", "tools"):
    table = pyarrow.table({**pairs, column: nulls})
    pyarrow.parquet.write_table(table, f"{column}-list.parquet", compression="zstd")
table = pyarrow.table({"prompt": ["a" * 300_000_000], "completion": ["b"]})
pyarrow.parquet.write_table(table, "long-page.parquet", compression="zstd", use_dictionary=False)
