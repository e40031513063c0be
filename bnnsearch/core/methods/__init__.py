"""Methods of training binary weights, one per module; `build` turns settings into the phases of a run."""
