"""Pictures as tests need them: made here, and described for the emulator. No test lives here."""

import hashlib
import io
import re

import PIL.Image
from PIL.PngImagePlugin import PngInfo


def drawn(words="a red sports car", size=(64, 64), kind="PNG"):
    """A picture as bytes that the emulator takes for *words*; too noisy to become small."""
    info, file, (width, height) = PngInfo(), io.BytesIO(), size
    info.add_itxt("Title", words)
    noise = hashlib.shake_256(words.encode()).digest(3 * width * height)
    PIL.Image.frombytes("RGB", size, noise).save(file, kind, pnginfo=info)
    return file.getvalue()


def logged(content):
    """A picture as the emulator logs it."""
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return {"image": f"data:image/png;base64,<{len(content)} bytes, blake2b {digest}>"}


def base64_in(text):
    """Whatever in *text* is base64, or the beginning of a picture's bytes."""
    return re.findall(r"[A-Za-z0-9+/]{100,}|iVBORw0KGgo|\\x89PNG|/9j/4AAQ", text)
