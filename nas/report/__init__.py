"""Records in, tables and pages out: values first, then renderings."""
