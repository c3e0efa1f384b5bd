from __future__ import annotations

import hypothesis

# A slow machine is not a failing test; what must be fast is measured by `make bench`.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.load_profile("default")
