from __future__ import annotations

import hypothesis

# A slow machine is not a failing test; what must be fast is measured by `make bench`. The same examples in every run,
# so that a test fails because of a change; `make fuzz` looks for others.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")
