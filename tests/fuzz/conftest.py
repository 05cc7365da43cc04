"""How many cases the fuzz tests run: see `bounds.SHARES`.

`make test` repeats the same few cases every time, CI the same 2,000. `make fuzz` draws 20,000
others, from a seed that it prints.
"""

import os

from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,  # `bounds.ending` ends a case
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("test", max_examples=300, derandomize=True, database=None, **_COMMON)
settings.register_profile("ci", settings.get_profile("test"), max_examples=2000)
settings.register_profile("fuzz", max_examples=20_000, derandomize=False, **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "test")
