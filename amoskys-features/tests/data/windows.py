"""Computes sliding windows with Polars: the columns of a CSV file to the windows of another.

    python3 windows.py EVENTS WINDOWS LENGTH_S SLIDE_S
"""

import sys

import polars as pl

events, windows, length, slide = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
frame = pl.read_csv(events).with_columns(pl.col("time").cast(pl.Datetime("ns"))).sort("time")
seconds = (pl.col("time").max() - pl.col("time")).dt.total_nanoseconds() / 1e9
frame.group_by_dynamic(
    "time", every=f"{slide}s", period=f"{length}s", closed="left", label="left", group_by="host"
).agg(
    pl.len().alias("count"),
    pl.col("bytes").sum(),
    pl.col("value").sum().alias("sum"),
    pl.col("value").mean().alias("mean"),
    pl.col("value").std().alias("deviation"),
    pl.col("member").n_unique().alias("distinct"),
    pl.col("value").quantile(0.5, "lower").alias("p50"),
    pl.col("value").quantile(0.9, "lower").alias("p90"),
    pl.col("service").unique_counts().entropy(base=2, normalize=True).alias("entropy"),
    (2.0 ** (-0.1 * seconds)).sum().alias("damped"),
).with_columns(pl.col("time").dt.epoch("ns")).write_csv(windows, float_precision=17)
