"""Where and how fast a run computes: nothing here changes a result, so nothing here is in a key."""

from __future__ import annotations

from pydantic import Field

from tag2mask.config.settings import Settings


class Engine(Settings):
    """Device and workers of a run.

    A plain command uses one device; several processes run under ``torchrun`` (on SLURM: ``srun torchrun …``).
    """

    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto: CUDA, then MPS, then CPU"
    )
    devices: int = Field(default=1, ge=1, description="processes; more than one needs torchrun")
    workers: int = Field(default=0, ge=0, le=64, description="processes that decode images; 0 decodes in threads")
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of torch; null: as many as cores were free when the run was begun"
    )
