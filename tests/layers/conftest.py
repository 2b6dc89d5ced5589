"""Sets the backend up for comparisons in float64 and exact float32."""

import backends

backends.set_up()
