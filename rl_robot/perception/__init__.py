"""From camera images to the poses of objects, and the checks that images pass first."""
