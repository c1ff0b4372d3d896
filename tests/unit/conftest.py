"""Settings shared by the unit tests."""

import os

from hypothesis import settings

# `make properties` looks long, everything else briefly.
settings.register_profile("long", max_examples=20_000, deadline=None)
settings.register_profile("brief", max_examples=100, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "brief"))
