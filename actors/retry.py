"""Whether a failed attempt is repeated, and when; pure.

Rules:
1. Only a fault that may pass by itself is worth another attempt.
2. What may have been carried out is repeated only where twice is the same as once.
3. Each wait is twice as long as the one before, and lengthened at random by a share.
4. Nothing is repeated past its caller's deadline.
"""

from __future__ import annotations

from attrs import field, frozen, validators

from .faults import Fault


@frozen(kw_only=True)
class RetryPolicy:
    """How often a command is tried, and how long is waited in between.

    Attributes:
        attempts: How often at most, the first time included.
        wait_s: How long before the second attempt, in seconds; then twice as long each time.
        jitter: The largest share by which a wait is lengthened, at random.
    """

    attempts: int = field(default=3, validator=validators.ge(1))
    wait_s: float = field(default=1.0, validator=validators.ge(0.0))
    jitter: float = field(
        default=0.1, validator=validators.and_(validators.ge(0.0), validators.le(1.0))
    )

    def wait_after_s(self, failures: int, chance: float) -> float:
        """Return how long to wait after so many failed attempts; `chance` is from 0 to 1."""
        # Capped so that no number of attempts can overflow the power.
        return self.wait_s * 2.0 ** min(failures - 1, 60) * (1.0 + self.jitter * chance)


ONCE = RetryPolicy(attempts=1)
"""For what is never repeated: emergencies, and what comes around by itself, such as polls."""


def next_attempt_s(
    policy: RetryPolicy,
    fault: Fault,
    *,
    failures: int,
    sent: bool,
    idempotent: bool,
    now_s: float,
    deadline_s: float,
    chance: float,
) -> float | None:
    """Return when to try again, or None where this was the last attempt.

    Args:
        policy: How often and how long.
        fault: What the last attempt failed with.
        failures: How many attempts have failed so far.
        sent: Whether a byte of the command ever left.
        idempotent: Whether carrying it out twice is the same as once.
        now_s: The instant, on the clock of the deadline.
        deadline_s: When its caller stops caring.
        chance: A random number from 0 to 1.
    """
    if not fault.kind.recoverable or failures >= policy.attempts or (sent and not idempotent):
        return None
    again_s = now_s + policy.wait_after_s(failures, chance)
    return again_s if again_s < deadline_s else None
