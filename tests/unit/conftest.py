"""How hypothesis works here: few examples by default, on machines of any speed, several processes beside each other."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("unit")
