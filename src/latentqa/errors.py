"""What can go wrong, as one tree: catch `LatentQAError` and you catch all of it.

LatentQAError
├── ModelError               a model cannot be loaded or is not what was needed
│   ├── ModelNotFoundError   no such hub id, folder, file or package
│   └── MissingPackageError  an optional package is needed; the message holds the pip command
├── LayerError               a read layer or write site that the model does not have
├── AdapterError             an adapter that is missing, damaged or made for something else
├── DialogError              a dialog that is empty, malformed or refused by the chat template
├── SpanError                a span that is empty or not in the dialog
├── PlaceholderError         a placeholder that is not one token
├── ContextLengthError       a dialog or prompt longer than the model's context
├── ActivationError          activations that are not finite, or a damaged activation file
├── CardError                a decoder card that is missing, unreadable or does not match the model
├── QuestionError            a question or answer that is empty
├── DataError                a data file or row that cannot be used
├── ProviderError            a writer that cannot be reached, paid or understood
├── ConfigError              an unknown or invalid setting
├── SteeringError            a steering that cannot be made, read, applied or exported
└── TrainingError            a run that cannot start, resume or write its checkpoint
"""


class LatentQAError(Exception):
    """Base of every error that latentqa raises on purpose."""


class ModelError(LatentQAError):
    """A model cannot be loaded or is not what was needed."""


class ModelNotFoundError(ModelError):
    """No such hub id, folder, file or package."""


class MissingPackageError(ModelError):
    """An optional package is needed; the message holds the pip command."""


class LayerError(LatentQAError):
    """A read layer or write site that the model does not have."""


class AdapterError(LatentQAError):
    """An adapter that is missing, damaged or made for something else."""


class DialogError(LatentQAError):
    """A dialog that is empty, malformed or refused by the chat template."""


class SpanError(LatentQAError):
    """A span that is empty or not in the dialog."""


class PlaceholderError(LatentQAError):
    """A placeholder that is not one token in context."""


class ContextLengthError(LatentQAError):
    """A dialog or prompt longer than the model's context."""


class ActivationError(LatentQAError):
    """Activations that are not finite, or a damaged activation file."""


class CardError(LatentQAError):
    """A decoder card that is missing, unreadable or does not match the model."""


class QuestionError(LatentQAError):
    """A question or answer that is empty."""


class DataError(LatentQAError):
    """A data file or row that cannot be used."""


class ProviderError(LatentQAError):
    """A writer that cannot be reached, paid or understood."""


class ConfigError(LatentQAError):
    """An unknown or invalid setting."""


class TrainingError(LatentQAError):
    """A run that cannot start, resume or write its checkpoint."""


class SteeringError(LatentQAError):
    """A steering that cannot be made, read, applied or exported."""
