"""Facts about the sets of tables, and of those that are made of others."""

from __future__ import annotations

from trainoff.datamodules.facts.entry import DataModuleEntry

BREAST_CANCER = DataModuleEntry(
    name="breast_cancer",
    target="trainoff.datamodules.scikit_learn:BreastCancer",
    summary="breast cancer Wisconsin (diagnostic), 30 features (scikit-learn, no download)",
    paper="Wolberg, Mangasarian, Street and Street 1993, Breast Cancer Wisconsin (Diagnostic), UCI, "
    "doi:10.24432/C5DW2B",
    num_samples=569,
    input_shape=(30,),
    num_classes=2,
    licence="CC BY 4.0",
    size_bytes=119_913,
)
WINE = DataModuleEntry(
    name="wine",
    target="trainoff.datamodules.scikit_learn:Wine",
    summary="chemical analyses of wines from three cultivars, 13 features (scikit-learn, no download)",
    paper="Aeberhard and Forina 1992, Wine, UCI, doi:10.24432/C5PC7J",
    num_samples=178,
    input_shape=(13,),
    num_classes=3,
    licence="CC BY 4.0",
    size_bytes=11_157,
)
DIABETES = DataModuleEntry(
    name="diabetes",
    target="trainoff.datamodules.scikit_learn:Diabetes",
    summary="progression of diabetes after one year from 10 features, regression (scikit-learn, no download)",
    paper="Efron, Hastie, Johnstone and Tibshirani 2004, Least Angle Regression, Annals of Statistics 32(2)",
    num_samples=442,
    input_shape=(10,),
    licence="none stated; distributed with scikit-learn (BSD-3-Clause)",
    size_bytes=8_123,
)
IRIS = DataModuleEntry(
    name="iris",
    target="trainoff.datamodules.scikit_learn:Iris",
    summary="three species of iris by 4 lengths and widths (scikit-learn, no download)",
    paper="Fisher 1936, The use of multiple measurements in taxonomic problems; UCI, doi:10.24432/C56C76",
    num_samples=150,
    input_shape=(4,),
    num_classes=3,
    licence="CC BY 4.0",
    size_bytes=2_734,
)
ALTERED = DataModuleEntry(
    name="altered",
    target="trainoff.datamodules.altered:Altered",
    summary="another set with noisy labels, a long tail, permuted pixels, ... (`trainoff list alterations`)",
    licence="that of the altered set",
)
TASK_SEQUENCE = DataModuleEntry(
    name="task_sequence",
    target="trainoff.datamodules.task_sequence:TaskSequence",
    summary="other sets one after the other within one training, evaluated together: forgetting",
    paper="Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks, arXiv:1612.00796",
    licence="those of the sets",
)
TABLE = DataModuleEntry(
    name="table",
    target="trainoff.datamodules.table:Table",
    summary="your own table: CSV or Parquet by path, with a target column",
    licence="that of your file",
)
PARQUET_STREAM = DataModuleEntry(
    name="parquet_stream",
    target="trainoff.datamodules.parquet_stream:ParquetStream",
    summary="your own Parquet or Arrow files, larger than memory: numbers or tokens, read in blocks",
    licence="that of your files",
)
TIME_SERIES = DataModuleEntry(
    name="time_series",
    target="trainoff.datamodules.time_series:TimeSeries",
    summary="your own series: CSV or Parquet by path; windows, and the values that follow",
    licence="that of your file",
)
