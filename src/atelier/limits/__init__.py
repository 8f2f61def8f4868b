"""How often something may be asked for, and who counts it."""

from atelier.limits.limiter import ALL, Limiter, Policy, State, Verdict

__all__ = ["ALL", "Limiter", "Policy", "State", "Verdict"]
