"""Checkpoints: where they lie, who may write them, what makes one whole, and what a restart goes on from.

The loop calls `directory.open_storage`, `plan.plan_resume` and `save.Saver`; `rljob checkpoint` reads the
same directories. Only `save`, `team` and `export` import torch.
"""
