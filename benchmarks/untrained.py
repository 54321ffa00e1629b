"""Data for trials that are not trained."""

from nas.training.summary import DataSummary

SUMMARY = DataSummary(
    source="none",
    class_names=tuple("0123456789"),
    class_counts=(1,) * 10,
    in_chans=1,
    image_size=8,
    num_train=10,
    num_val=10,
    num_test=10,
    fingerprint="0" * 64,
)
