"""All errors that caecodec raises deliberately; no message ends in a period.

CodecError
├── FormatError                  the bytes are not a valid file
│   ├── BadMagicError
│   ├── UnsupportedVersionError
│   ├── TruncatedError
│   ├── ChecksumMismatchError
│   ├── DesyncError
│   └── LimitExceededError
├── ModelError                   the weights
│   └── UnknownModelError
├── ImageError                   the pixels
├── SymbolRangeError
├── ConfigError                  what was asked for
├── TargetError
├── FileError                    where the bytes are
└── UrlError
"""


class CodecError(Exception):
    """Base of all errors of this package."""


class FormatError(CodecError):
    """The bytes are not a valid `.cae` file."""


class BadMagicError(FormatError):
    """The file does not start with the magic of FORMAT.md section 4."""


class UnsupportedVersionError(FormatError):
    """The file needs a newer caecodec."""


class TruncatedError(FormatError):
    """The file ends before the length that it declares."""


class ChecksumMismatchError(FormatError):
    """Stored and computed CRC-32 differ: the file is damaged."""


class DesyncError(FormatError):
    """The payload is intact, but the decoded symbols are not those encoded."""


class LimitExceededError(FormatError):
    """A field is beyond the limits of FORMAT.md section 9."""


class ModelError(CodecError):
    """A weights file is missing, malformed, or not the one needed."""


class UnknownModelError(ModelError):
    """There are no weights with the digest that the file names."""


class ImageError(CodecError):
    """An image cannot be read, written, or stored."""


class SymbolRangeError(CodecError):
    """A symbol is outside the range that can be coded."""


class ConfigError(CodecError):
    """A setting is unknown or out of range."""


class TargetError(CodecError):
    """No quality reaches the target."""


class FileError(CodecError):
    """A file cannot be read or written as requested."""


class UrlError(CodecError):
    """A file behind a URL cannot be read or written."""


OUT_OF_MEMORY = "out of memory: try a smaller image"
_SIGNS_OF_IT = ("memory", "bad_alloc", "failed to map segment")
"""What torch says, as RuntimeError, and the loader of a library, as ImportError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory did not suffice, whichever class says so."""
    if isinstance(error, (RuntimeError, ImportError)):
        return any(sign in str(error).lower() for sign in _SIGNS_OF_IT)
    return isinstance(error, MemoryError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class.

    Of the system's errors it is the reason alone: the caller names the file.
    """
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n", 1)[0] or type(error).__name__
