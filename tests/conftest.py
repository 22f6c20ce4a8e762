"""How chance enters the tests: the same examples each time, others on request."""

import os

from hypothesis import settings

# a suite that is green by luck is not green; to look for more: HOLDFAST_EXPLORE=1 python -m pytest ...
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("explore" if os.environ.get("HOLDFAST_EXPLORE") else "steady")
