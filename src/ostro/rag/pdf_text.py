"""The text of a PDF, page by page, read by pypdf."""

from __future__ import annotations

import io
import logging
from typing import Any

from ostro.errors import DocumentError, MissingExtraError

MAX_PAGES = 20_000


def pages_of_pdf(source: str, data: bytes) -> tuple[str, list[str]]:
    """Title (or "") and the text of every page.

    Raises DocumentError for one that is damaged, locked by a password, or made of pictures alone.
    """
    try:
        import pypdf
        from pypdf.errors import PyPdfError
    except ImportError:
        raise MissingExtraError("pypdf", "rag", "Reading a PDF") from None
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every oddity that it mended
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError(source, "is locked by a password. Save a copy without one (such as with qpdf).")
        if len(reader.pages) > MAX_PAGES:
            raise DocumentError(source, f"has {len(reader.pages):,} pages, and {MAX_PAGES:,} are allowed. Split it.")
        title, pages = _title(reader), [page.extract_text() or "" for page in reader.pages]
    except DocumentError:
        raise
    except (PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OSError) as error:
        # pypdf meets damaged files with all of these; each of them says no more than that.
        raise DocumentError(
            source, f"cannot be read as a PDF ({type(error).__name__}: {error}). Get it again, or save it anew."
        ) from None
    except ImportError as error:
        raise DocumentError(source, f"is encrypted, and pypdf says: {error}. Save a copy without encryption.") from None
    if not any(page.strip() for page in pages):
        raise DocumentError(source, "has no text but pictures of it. Run OCR first (such as ocrmypdf), then add it.")
    return title, pages


def _title(reader: Any) -> str:
    try:
        stated = reader.metadata.title if reader.metadata else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return str(stated).strip() if stated else ""
