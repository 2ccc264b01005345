"""From text to a `TrainingRun`: pure functions over plain frozen data, no input or output."""
