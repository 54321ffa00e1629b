"""Which cheap score ranks architectures of a data set as full training does."""
