"""Records every finished, tagged SageMaker training job in ModelDB, exactly once."""

__version__ = "0.1.0"
