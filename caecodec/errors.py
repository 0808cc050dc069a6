"""Every error that caecodec raises on purpose; no message ends in a period.

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
    """The file ends before what it promises."""


class ChecksumMismatchError(FormatError):
    """Stored and computed CRC-32 differ: the file is damaged."""


class DesyncError(FormatError):
    """The payload is whole, yet its symbols are not those encoded: the decoder is out of step."""


class LimitExceededError(FormatError):
    """A field is beyond the limits of FORMAT.md section 9."""


class ModelError(CodecError):
    """A weights file is missing, malformed, or not the one that is needed."""


class UnknownModelError(ModelError):
    """No weights with the digest that the file names."""


class ImageError(CodecError):
    """An image cannot be read, written, or stored."""


class SymbolRangeError(CodecError):
    """A symbol has no code."""


class ConfigError(CodecError):
    """A configuration value is out of its range or unknown."""


class TargetError(CodecError):
    """No quality reaches the wanted size or PSNR."""


class FileError(CodecError):
    """A file cannot be read or written as asked."""


class UrlError(CodecError):
    """A file behind a URL cannot be read or written."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, or the name of its class."""
    return str(error).split("\n", 1)[0] or type(error).__name__
