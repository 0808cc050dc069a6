"""Forked processes, which lack the threads of OpenMP and would wait for them."""

from __future__ import annotations

import os

import torch

_process = os.getpid()


def use_one_thread_if_forked() -> None:
    """Set torch to one thread in a process that was forked after this module was loaded.

    Called before a codec computes, so that forks of a program that do not use one stay as they are.
    """
    global _process  # noqa: PLW0603 - a fork inherits it
    if os.getpid() != _process:
        torch.set_num_threads(1)
        _process = os.getpid()
