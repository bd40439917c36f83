"""TAL Studio's engine: data, models, training, inference and evaluation for temporal action localization."""

__version__ = "0.2.0"
