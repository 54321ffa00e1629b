"""Imported once by the server that forks processes, and by nothing else: whatever they need that takes long."""

import atexit
import gc
import os

import alembic.context  # noqa: F401 - Optuna imports it late

import nas.study.launch.joining
import nas.study.launch.plan  # noqa: F401

gc.freeze()  # else the first collection of each process would copy what all of them share
atexit.register(os._exit, 0)  # taking torch apart takes a second, for which whoever reads our output would wait
