"""Networks: tensors in, tensors out; bytes are unknown here."""

import functools
import os

import torch

if hasattr(os, "register_at_fork"):  # a fork lacks the threads of OpenMP and would wait for them
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))
