"""The border to csrc/: the compiled engine, or why there is none."""

from aoe.engine.engine import Engine, EngineUnavailable, ExportFacts, PortFacts, Up, why_unavailable

__all__ = ["Engine", "EngineUnavailable", "ExportFacts", "PortFacts", "Up", "why_unavailable"]
