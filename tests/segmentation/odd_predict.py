"""`tag2mask predict` as a test needs it: it waits for an hour after two photos, or says that it is another version."""

from __future__ import annotations

import os
import sys
import time
from importlib import metadata
from typing import Any

from tag2mask.cli import app
from tag2mask.segmentation.predict.labeller import Labeller

if __name__ == "__main__":
    if "TEST_VERSION" in os.environ:
        version = metadata.version
        metadata.version = lambda distribution_name: (
            os.environ["TEST_VERSION"] if distribution_name == "tag2mask" else version(distribution_name)
        )
    if "TEST_WAIT" in os.environ:
        labels, done = Labeller.labels, list[int]()

        def slow(self: Labeller, photos: Any) -> Any:
            done.append(len(photos))
            if sum(done) > 2:
                time.sleep(3600)
            return labels(self, photos)

        Labeller.labels = slow  # type: ignore[method-assign]
    sys.argv.insert(1, "predict")
    app.main()
