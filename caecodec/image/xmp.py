"""XMP of more than one packet: a JPEG segment holds 64 KB. Adobe's XMP specification, part 3."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from xml.etree import ElementTree as ET

PNG_KEY = "XML:com.adobe.xmp"
SEGMENT_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
_SEGMENT_BYTES = 65_502
_EXTENSION_BYTES = 65_400
_GUID_BYTES = 32
_GUID = re.compile(rb"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})")
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}RDF"
_HAS_EXTENSION = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{}<?xpacket end="w"?>'
_NAMES_EXTENSION = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    ' xmpNote:HasExtendedXMP="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def segments(xmp: bytes) -> list[bytes]:
    """Return XMP as the contents of JPEG segments: one, or one that names the extension after it.

    Source: section 1.1.3.1.
    """
    if len(xmp) <= _SEGMENT_BYTES:
        return [SEGMENT_PREFIX + xmp]
    guid = hashlib.md5(xmp, usedforsecurity=False).hexdigest().upper()
    parts = [SEGMENT_PREFIX + _PACKET.format(_NAMES_EXTENSION.format(guid)).encode()]
    for offset in range(0, len(xmp), _EXTENSION_BYTES):
        place = guid.encode() + struct.pack(">II", len(xmp), offset)
        parts.append(EXTENSION_PREFIX + place + xmp[offset : offset + _EXTENSION_BYTES])
    return parts


def assembled(xmp: bytes, parts: list[bytes]) -> bytes | None:
    """Return the extension that XMP names, from its parts without prefix; None if it is not whole.

    Each part is the extension's GUID, its whole length, the part's offset, and the part.
    """
    named = _GUID.search(xmp)
    if named is None:
        return None
    guid = named[1].upper()
    pieces: dict[int, bytes] = {}
    length = 0
    for part in parts:
        if part[:_GUID_BYTES].upper() == guid:
            length, offset = struct.unpack_from(">II", part, _GUID_BYTES)
            pieces[offset] = part[_GUID_BYTES + 8 :]
    extension = b"".join(pieces[offset] for offset in sorted(pieces))
    starts = [0]
    for offset in sorted(pieces):
        starts.append(starts[-1] + len(pieces[offset]))
    is_whole = sorted(pieces) == starts[:-1] and len(extension) == length
    return extension if is_whole and extension else None


def merged(xmp: bytes, extension: bytes) -> bytes | None:
    """Return one packet with the properties of both; None if either is no XMP."""
    try:
        first, second = _tree(xmp), _tree(extension)
    except (ET.ParseError, UnicodeDecodeError, ValueError):
        return None
    target, source = _rdf(first), _rdf(second)
    if target is None or source is None:
        return None
    for description in list(target):
        description.attrib.pop(_HAS_EXTENSION, None)
        for child in description.findall(_HAS_EXTENSION):
            description.remove(child)
        if not len(description) and len(description.attrib) <= 1:  # rdf:about alone
            target.remove(description)
    target.extend(source)
    return _PACKET.format(f"\n{ET.tostring(first, encoding='unicode')}\n").encode()


def _tree(xmp: bytes) -> ET.Element:
    """Parse XMP, and keep its prefixes for writing: some readers know properties by them.

    Raises:
        ParseError: it is not XML.
        ValueError: it defines entities, which XMP never does.
    """
    data = xmp.strip(b"\0 \r\n\t")
    if b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise ValueError("a document type in XMP")
    for _, (prefix, uri) in ET.iterparse(io.BytesIO(data), ["start-ns"]):  # noqa: S314 - no entities
        if not re.fullmatch(r"ns\d+|xml", prefix):
            ET.register_namespace(prefix, uri)
    return ET.fromstring(data)  # noqa: S314 - no entities


def _rdf(tree: ET.Element) -> ET.Element | None:
    return tree if tree.tag == _RDF else tree.find(f".//{_RDF}")
