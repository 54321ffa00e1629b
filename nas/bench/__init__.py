"""FusionBench: every epoch of complete trainings of one small space, and what samplers would have made of it.

``nas.bench.load_table()`` reads the table that ships with the package.
"""

from nas.bench.table import Table, load_table

__all__ = ["Table", "load_table"]
