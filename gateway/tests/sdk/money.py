"""Costs by hand: exact decimals, rounded half up to the nano-dollar once, as an invoice would."""

from decimal import ROUND_HALF_UP, Decimal

NANO = Decimal("0.000000001")


def usd(*parts):
    """The cost of parts (units, USD per million units)."""
    picos = sum(Decimal(units) * Decimal(per_million) for units, per_million in parts)
    return (picos / Decimal(1_000_000)).quantize(NANO, ROUND_HALF_UP)
