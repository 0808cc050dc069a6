"""What image files hold beside their pixels where Pillow leaves it unread, format by format."""

from caecodec.image.formats.found import Found, find_in

__all__ = ["Found", "find_in"]
