"""Which cheap score ranks architectures of a study as full training does."""
